"""`vision budget` and `vision pause`: what they do when the API refuses or limits a request."""

from __future__ import annotations

import click
import httpx
import pytest

from vision_app.cli import budget
from vision_app.settings import load_settings


def answering(*answers: httpx.Response) -> tuple[budget.BudgetApi, list[float]]:
    """A client of an API that gives these answers, one by one. The pauses in between are recorded, not waited."""
    waits: list[float] = []
    left = iter(answers)
    transport = httpx.MockTransport(lambda request: next(left))
    return budget.BudgetApi(load_settings(), "t1", transport=transport, sleep=waits.append), waits


def test_after_429_the_command_waits_as_long_as_retry_after_says() -> None:
    """`vision pause --all` of a thousand tenants is more than the API takes at once."""
    too_often = httpx.Response(429, headers={"Retry-After": "2"})
    api, waits = answering(too_often, too_often, httpx.Response(200, json={"spent": 7}))
    assert api.state() == {"spent": 7}
    assert waits == [2, 2]


def test_any_other_refusal_ends_the_command_in_the_apis_own_words() -> None:
    refusal = {"error": {"code": "forbidden", "message": "this needs a token for all tenants"}}
    api, waits = answering(httpx.Response(403, json=refusal))
    with pytest.raises(click.ClickException, match="403: this needs a token for all tenants"):
        api.ask("POST", "/pause")
    assert waits == []
