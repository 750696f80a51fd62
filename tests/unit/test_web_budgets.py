"""GET /api/v1/budgets: states, forecasts, pages; ledgers of other workers are asked for at their owners."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import pytest

from tests.unit.test_budget import TENANT
from tests.unit.test_web import Worker, served
from vision_app.web.budget_list import MAX_SCANNED, forecast, judge
from vision_app.web.models import BudgetAnswer

START = datetime(2026, 11, 27, tzinfo=UTC)
NOON = START + timedelta(hours=12)


def ledger(**more: Any) -> BudgetAnswer:
    known: dict[str, Any] = {
        "tenant_id": "t",
        "day": "2026-11-27",
        "limit": 1000,
        "default_limit": True,
        "spent": 0,
        "reserved": 0,
    }
    known |= {"waiting": 0, "open_grants": 0, "paused": False, "loaded": True, "known": True, "note": None}
    known |= {"reset_at": START + timedelta(days=1), **more}
    known.setdefault("remaining", max(0, known["limit"] - known["spent"] - known["reserved"]))
    return BudgetAnswer.model_validate(known)


@pytest.mark.parametrize(
    ("of", "state"),
    [
        ({}, "ok"),
        ({"waiting": 3, "open_grants": 2}, "waiting"),
        ({"waiting": 3}, "exhausted"),  # nothing in work and tasks wait: the rest does not suffice for the next one
        ({"spent": 1000}, "exhausted"),
        ({"spent": 1000, "paused": True}, "paused"),
    ],
)
def test_a_ledgers_state(of: dict[str, Any], state: str) -> None:
    assert judge(ledger(**of), NOON).state == state


def test_the_forecast_is_linear_since_midnight() -> None:
    assert forecast(ledger(spent=750), NOON) == START + timedelta(hours=16)


@pytest.mark.parametrize("of", [{"spent": 0}, {"spent": 500}, {"spent": 499}, {"spent": 900, "day": "2026-11-28"}])
def test_money_that_lasts_till_midnight_has_no_end(of: dict[str, Any]) -> None:
    assert forecast(ledger(**of), NOON) is None


def test_money_that_is_spent_ended_now() -> None:
    assert forecast(ledger(spent=1000), NOON) == NOON
    assert forecast(ledger(spent=900, reserved=100), NOON) == NOON


class Many(Worker):
    """A worker whose Postgres names these tenants; it owns all of them, and of one it has a ledger."""

    names = sorted([TENANT, *(f"tenant-{number:03}" for number in range(130))])

    async def tenants_after(self, after: str, limit: int) -> list[str]:
        return [name for name in self.names if name > after][:limit]


async def _all(client: Any, query: str = "") -> list[list[str]]:
    pages, cursor = [], ""
    for _ in range(20):
        status, body = await client.ask("GET", f"/api/v1/budgets?limit=50{query}{cursor}")
        assert status == 200
        pages.append([one["tenant_id"] for one in body["budgets"]])
        if body["next_cursor"] is None:
            break
        cursor = f"&cursor={body['next_cursor']}"
    return pages


async def test_every_tenant_is_on_one_page() -> None:
    async with served(Many()) as client:
        pages = await _all(client)
    assert [len(page) for page in pages] == [50, 50, 31]
    assert list(chain.from_iterable(pages)) == Many.names


async def test_a_filter_looks_at_a_bounded_number_of_tenants_and_goes_on() -> None:
    worker = Many()
    worker.names = [*(f"a-{number:05}" for number in range(2 * MAX_SCANNED)), TENANT]
    worker.park("task")  # pauses the tenant
    async with served(worker) as client:
        assert await _all(client, "&state=paused") == [[], [], [TENANT]]


async def test_a_tenants_token_sees_its_own_ledger_only() -> None:
    async with served(Many(), vision_api_tokens=f"every=*,mine={TENANT},other=tenant-001") as client:
        for token, names in (("mine", [TENANT]), ("other", ["tenant-001"])):
            headers = {"Authorization": f"Bearer {token}"}
            _, body = await client.ask("GET", "/api/v1/budgets", headers=headers)
            assert [one["tenant_id"] for one in body["budgets"]] == names
        for url in (f"/api/v1/budgets?tenant_id={TENANT}", f'/api/v1/budget-states?tenants=["{TENANT}"]'):
            status, body = await client.ask("GET", url, headers=headers)
            assert status == 404


@pytest.mark.parametrize("tenants", ["", "x", "{}", "[1]", '[""]', "[" + ",".join(['"a"'] * 51) + "]"])
async def test_a_wrong_list_of_tenants_is_refused(tenants: str) -> None:
    async with served(Many()) as client:
        status, body = await client.ask("GET", "/api/v1/budget-states", params={"tenants": tenants})
    assert (status, body["error"]["details"]["faults"][0]["name"]) == (422, "tenants")
