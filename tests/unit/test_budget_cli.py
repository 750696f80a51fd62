"""`vision budget` and `vision pause`: what they do when the API refuses or limits a request."""

from __future__ import annotations

from typing import Any

import click
import httpx
import pytest
from click.testing import CliRunner

from vision_app.cli import budget
from vision_app.settings import load_settings


def answering(monkeypatch: pytest.MonkeyPatch, *answers: httpx.Response) -> list[float]:
    """Let the API give these answers, one by one. The pauses in between are recorded and returned, not waited."""
    waits: list[float] = []
    left = list(answers)

    def request(*_: Any, **__: Any) -> httpx.Response:
        return left.pop(0)

    monkeypatch.setattr(httpx, "request", request)
    monkeypatch.setattr("vision_app.cli.budget.time.sleep", waits.append)
    return waits


def test_after_429_the_command_waits_as_long_as_retry_after_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """`vision pause --all` of a thousand tenants is more than the API takes at once."""
    too_often = httpx.Response(429, headers={"Retry-After": "2"})
    waits = answering(monkeypatch, too_often, too_often, httpx.Response(200, json={"spent": 7}))
    assert budget.BudgetApi(load_settings(), "t1").state() == {"spent": 7}
    assert waits == [2, 2]


def test_any_other_refusal_ends_the_command_in_the_apis_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = {"error": {"code": "forbidden", "message": "this needs a token for all tenants"}}
    waits = answering(monkeypatch, httpx.Response(403, json=refusal))
    with pytest.raises(click.ClickException, match="403: this needs a token for all tenants"):
        budget.BudgetApi(load_settings(), "t1").ask("POST", "/pause")
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
    known: list[str], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def tenants(_: Any) -> list[str]:
        return known

    answering(monkeypatch, httpx.Response(200, json=NEW))
    monkeypatch.setattr(budget, "_tenants", tenants)
    shown = CliRunner().invoke(budget.show, ["nosuch"])
    assert shown.exit_code == code
    assert ("No such tenant is known" in shown.stderr) is (code == 3)
    assert (f"Known: {', '.join(known) or 'none'}." in shown.stderr) is (code == 3)
    assert "PAUSED: `vision resume nosuch`" in shown.stdout
