"""`vision budget` and `vision pause`: what they do when the API refuses or limits a request."""

from __future__ import annotations

import click
import httpx
import pytest

from vision_app.cli import budget
from vision_app.settings import load_settings


def answering(*answers: httpx.Response, tenant: str = "t1") -> tuple[budget.BudgetApi, list[float]]:
    """A client of an API that gives these answers, one by one. The pauses in between are recorded, not waited."""
    waits: list[float] = []
    left = iter(answers)
    transport = httpx.MockTransport(lambda request: next(left))
    return budget.BudgetApi(load_settings(), tenant, transport=transport, sleep=waits.append), waits


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


NEW = {
    "tenant_id": "nosuch",
    "known": False,
    "paused": True,
    "day": "2026-11-27",
    "reset_at": "2026-11-28T00:00:00+00:00",
    "limit": 9,
    **dict.fromkeys(("spent", "reserved", "remaining", "open_grants", "waiting"), 0),
}


@pytest.mark.parametrize(("known", "code"), [(["nosuck", "a"], 3), ([], 3), (["nosuch"], 0)])
def test_a_tenant_that_nobody_knows_is_called_unknown(
    known: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    api, _ = answering(httpx.Response(200, json=NEW), tenant="nosuch")
    ended = 0
    try:
        budget.show_budget(api, lambda: known, as_json=False)
    except SystemExit as end:
        ended = int(str(end.code))
    shown = capsys.readouterr()
    assert ended == code
    assert ("No such tenant is known" in shown.err) is (code == 3)
    assert (f"Known: {', '.join(known) or 'none'}." in shown.err) is (code == 3)
    assert "PAUSED: `vision resume nosuch`" in shown.out
