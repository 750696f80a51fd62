"""The budget actor's shell: grants are sent first, then entries written, then the row; and the loader."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

import vision_app.app as composition
from agents.budget import LOOK_AGAIN_SECONDS, UNDER_WAY_MS, LedgerLoader, LostLedgers, WakeTimer
from tests.agents.conftest import World
from tests.fakes import until
from vision_app.domain.budget import BudgetRules
from vision_app.domain.signatures import flaw_of, key_from
from vision_app.messages import Drop, Grant, Load, Lost, Pause, Release, Reserve, Resume, SetLimit, Settle, Wake
from vision_app.streams.ownership import partition_of
from vision_app.telemetry import metrics

KEY = b"t1"


@pytest.fixture
def changes() -> dict[str, Any]:
    return {"vision_max_concurrent_requests": 2, "vision_max_daily_tokens": 10_000}


@pytest.fixture(autouse=True)
def _owner(world: World) -> None:
    world.own(KEY)


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def reserve(world: World, post_id: str = "p1", estimate: int = 1000) -> Reserve:
    return Reserve(tenant_id="t1", task=world.task(post_id=post_id), estimate=estimate)


async def loaded(world: World, agent: Any, spent: int = 0, limit: int | None = None) -> None:
    await world.tell(agent, Load(tenant_id="t1", day=today(), spent=spent, limit=limit), key=KEY)


async def test_a_tenant_without_a_row_parks_and_asks_for_what_was_spent(world: World) -> None:
    world.postgres.spent, world.postgres.limit, world.postgres.paused = 7_500, 9_000, True
    world.postgres.answers.clear()
    async with world.agent("budget") as agent:
        await world.tell(agent, reserve(world), reserve(world, "p2"), key=KEY)
        assert world.sent("vision.analysis") == []
        world.postgres.answers.set()
        await until(lambda: world.sent("vision.budget"))
    (load,) = world.sent("vision.budget")
    assert (load["type"], load["spent"], load["limit"], load["paused"]) == ("load", 7_500, 9_000, True)
    assert load["day"] == today()
    assert world.postgres.asked == 1
    assert set(world.app.budgets) == {KEY}


async def test_the_entry_goes_before_the_row_that_points_to_it(world: World) -> None:
    async with world.agent("budget") as agent:
        await world.tell(agent, reserve(world), key=KEY)
    assert world.order("row", "ack") == ["row parked", "row budget", "ack"]
    entry, row, _ = [entry for entry in world.happened if entry.what in ("row", "ack")]
    assert entry.key == b"t1|0"
    assert (row.body["first"], row.body["next"]) == (0, 1)


async def test_the_grant_goes_before_the_row_and_the_entry_goes_after_it(world: World) -> None:
    async with world.agent("budget") as agent:
        await world.tell(agent, reserve(world), key=KEY)
        world.happened.clear()
        await loaded(world, agent)
    order = [entry for entry in world.order() if entry != "send vision.budget"]
    assert order == ["send vision.analysis", "row budget", "gone parked", "ack"]
    (grant,) = world.sent("vision.analysis")
    assert (grant["type"], grant["provider"], grant["estimate"]) == ("grant", "gigachat", 1000)
    assert grant["task"]["times"]["granted"] > 0


async def test_a_grant_is_signed_with_the_installations_key(world: World) -> None:
    async with world.agent("budget") as agent:
        await loaded(world, agent)
        await world.tell(agent, reserve(world), key=KEY)
    (sent,) = world.sent("vision.analysis")
    grant = Grant.model_validate(sent)
    assert flaw_of(grant, key_from(world.app.settings.grant_secret), round(time.time() * 1000)) is None


async def test_open_grants_are_bounded_and_a_settled_one_lets_the_next_go(world: World) -> None:
    async with world.agent("budget") as agent:
        await loaded(world, agent)
        await world.tell(agent, *(reserve(world, f"p{number}") for number in range(4)), key=KEY)
        first, second = world.sent("vision.analysis")
        assert first["id"] != second["id"]
        await world.tell(agent, Settle(tenant_id="t1", grant_id=first["id"], tokens=800), key=KEY)
        assert [grant["task"]["post_id"] for grant in world.sent("vision.analysis")] == ["p0", "p1", "p2"]
        await world.tell(agent, Release(tenant_id="t1", grant_id=second["id"]), key=KEY)
        assert len(world.sent("vision.analysis")) == 4
    assert world.app.budgets.row(KEY).spent == 800
    assert list(world.app.tables["parked"]) == []


async def test_money_already_spent_is_not_given_again(world: World) -> None:
    async with world.agent("budget") as agent:
        await loaded(world, agent, spent=9_500)
        await world.tell(agent, reserve(world), key=KEY)
    assert world.sent("vision.analysis") == []
    (outcome,) = world.sent("vision.posts")
    assert (outcome["outcome"]["kind"], outcome["outcome"]["reason"]) == ("deferred", "budget")
    assert outcome["outcome"]["retry_at"].endswith("00:00:00Z")


async def test_a_lost_call_is_charged_and_asked_again(world: World) -> None:
    async with world.agent("budget") as agent:
        await loaded(world, agent)
        await world.tell(agent, reserve(world), key=KEY)
        (grant,) = world.sent("vision.analysis")
        task = world.task(attempt=2)
        lost = Lost(tenant_id="t1", grant_id=grant["id"], estimate=1000, task=task)
        await world.tell(agent, lost, lost, key=KEY)
    assert [g["task"]["attempt"] for g in world.sent("vision.analysis")] == [1, 2]
    assert world.app.budgets.row(KEY).spent == 1000


async def test_operators_pause_resume_and_set_limits(world: World) -> None:
    async with world.agent("budget") as agent:
        await loaded(world, agent)
        await world.tell(agent, Pause(tenant_id="t1"), reserve(world), key=KEY)
        assert world.sent("vision.analysis") == []
        await world.tell(agent, SetLimit(tenant_id="t1", limit=500), Resume(tenant_id="t1"), key=KEY)
        assert world.sent("vision.posts")[0]["outcome"]["details"]["limit"] == 500
    assert world.app.budgets.row(KEY).limit == 500


async def test_a_redelivered_command_is_recognised(world: World) -> None:
    at = time.time()
    async with world.agent("budget") as agent:
        await world.tell(agent, reserve(world), key=KEY, timestamp=at)
        before = len(world.order("row"))
        agent.sent_offset = 0
        await world.tell(agent, reserve(world), key=KEY, timestamp=at)
    assert len(world.order("row")) == before
    assert world.app.budgets.row(KEY).next == 1


async def test_while_postgres_is_away_the_tasks_wait_and_it_is_asked_again(world: World) -> None:
    world.postgres.faults = [OSError("away"), OSError("away")]
    async with world.agent("budget") as agent:
        await world.tell(agent, reserve(world), key=KEY)
        await until(lambda: world.sent("vision.budget"))
    assert world.postgres.asked == 3
    assert world.sent("vision.dlq") == []


async def test_an_invalid_command_is_dead_lettered_and_the_next_one_is_handled(world: World) -> None:
    async with world.agent("budget") as agent:
        await world.tell(agent, b'{"type": "print_money", "tenant_id": "t1"}', key=KEY)
        await loaded(world, agent)
    assert len(world.sent("vision.dlq")) == 1
    assert world.app.budgets.row(KEY).loaded is True


async def test_a_wake_for_an_unknown_tenant_writes_nothing(world: World) -> None:
    async with world.agent("budget") as agent:
        await world.tell(agent, Wake(tenant_id="t1"), key=KEY)
        await asyncio.sleep(0)
    assert world.order() == ["ack"]


async def test_a_dead_lettered_reservation_answers_its_post(world: World) -> None:
    async with world.agent("budget") as agent:
        await loaded(world, agent)
        world.refuse = lambda topic, value: ZeroDivisionError() if topic == "vision.analysis" else None
        await world.tell(agent, reserve(world, estimate=100), key=KEY)
    (letter,) = world.sent("vision.dlq")
    (told,) = world.sent("vision.posts")
    assert (told["outcome"]["kind"], told["outcome"]["dead_letter_id"]) == ("failed", letter["id"])


# --- what time alone changes ------------------------------------------------------------------------------------------


def _gauge(name: str, tenant: str = "t1") -> float | None:
    return metrics.REGISTRY.get_sample_value(name, {"tenant_id": tenant})


async def _tick(world: World, *, day: str, rules: Callable[[], BudgetRules] | None = None) -> None:
    """One run of the actor's alarm clock, at noon of a day."""
    at = datetime.fromisoformat(f"{day}T12:00:00+00:00").timestamp()
    app = world.app
    clock = WakeTimer(app, app.outbox, _loader(world), app.budgets, rules or app.budget_rules, clock=lambda: at)
    await clock.send_wakes()


def _loader(world: World) -> LedgerLoader:
    return LedgerLoader(world.app, world.app.outbox, world.postgres.budget_of, world.postgres)


async def test_after_midnight_spending_is_zero_and_waiting_tenants_are_woken(world: World) -> None:
    async with world.agent("budget") as agent:
        await loaded(world, agent, spent=9_500)
        await world.tell(agent, reserve(world), key=KEY)
        assert _gauge("vision_budget_usage_gauge") == 9_500
        world.happened.clear()
        await _tick(world, day="2999-01-01")
        assert _gauge("vision_budget_usage_gauge") == 0
        assert _gauge("vision_budget_parked_gauge") == 1
        assert [command["type"] for command in world.sent("vision.budget")] == ["wake"]


async def test_what_is_parked_says_what_it_waits_for(world: World) -> None:
    def said() -> list[tuple[str, str | None]]:
        return [
            (str(oldest.place), oldest.waits_for) for oldest in world.app.watch.oldest() if oldest.stage == "budget"
        ]

    place = f"vision.budget-{partition_of(world.app, KEY)}"
    async with world.agent("budget") as agent:
        await loaded(world, agent, spent=9_500)
        await _tick(world, day=today())
        assert said() == []
        await world.tell(agent, reserve(world), key=KEY)
        await _tick(world, day=today())
        assert said() == [(place, "the budget of its tenant")]
        await world.tell(agent, Pause(tenant_id="t1"), key=KEY)
        await _tick(world, day=today())
        assert said() == [(place, "the end of a pause")]
        world.own()
        await _tick(world, day=today())
        assert said() == [], "another worker has it now"


async def test_on_the_same_day_no_wake_is_sent(world: World) -> None:
    async with world.agent("budget") as agent:
        await loaded(world, agent, spent=9_500)
        await world.tell(agent, reserve(world), key=KEY)
        world.happened.clear()
        await _tick(world, day=today())
        assert _gauge("vision_budget_usage_gauge") == 9_500
        assert world.sent("vision.budget") == []


async def test_rules_changed_by_a_deployment_wake_those_who_wait_once(world: World) -> None:
    rules = world.app.budget_rules
    async with world.agent("budget") as agent:
        await loaded(world, agent, spent=9_500)
        await world.tell(agent, reserve(world), key=KEY)
        world.happened.clear()
        await _tick(world, day=today(), rules=lambda: dataclasses.replace(rules(), limit=20_000))
        assert [command["type"] for command in world.sent("vision.budget")] == ["wake"]
        world.happened.clear()
        await _tick(world, day=today())
        assert world.sent("vision.budget") == []


async def test_a_ledger_that_was_lost_never_gives_its_ids_again(world: World) -> None:
    async with world.agent("budget") as agent:
        await loaded(world, agent)
        await world.tell(agent, reserve(world), key=KEY, timestamp=time.time())
        world.app.budgets.data.data.clear()
        await world.tell(agent, reserve(world), key=KEY)
        await loaded(world, agent)
    first, second = world.sent("vision.analysis")
    assert first["id"].rpartition("-")[0] != second["id"].rpartition("-")[0]
    assert world.app.budgets.row(KEY).spent == 0


@pytest.mark.parametrize(("posts", "shown", "spent"), [(700, 0, 700), (700, 900, 900), (900, 700, 900)])
async def test_a_lost_ledger_starts_with_the_highest_known_spending(posts: int, shown: int, spent: int) -> None:
    async def budget_of(tenant_id: str, day: str) -> tuple[int, int | None, bool]:
        return posts, 5_000, True

    async def last_shown(tenant_id: str, day: str) -> int:
        return shown

    readers: Any = SimpleNamespace(budget_of=budget_of)
    mirror: Any = SimpleNamespace(last_shown=last_shown)
    assert await composition._look_up(readers, mirror)("t1", today()) == (spent, 5_000, True)


# --- a ledger that was lost -------------------------------------------------------------------------------------------


async def test_what_waited_in_a_lost_ledger_is_asked_about_again_before_the_new_one_is_loaded(world: World) -> None:
    now = time.time()
    long_ago, just_now = round((now - 3600) * 1000), round(now * 1000)
    world.postgres.unfinished_posts = {"t1": {"waits": long_ago, "on its way": just_now}, "t2": {"another's": long_ago}}
    async with world.agent("budget") as agent:
        await world.tell(agent, reserve(world), key=KEY, timestamp=now)
        await until(lambda: world.sent("vision.budget"))
    (again,) = world.sent("vision.posts")
    assert (again["type"], again["tenant_id"], again["post_id"]) == ("ask_again", "t1", "waits")
    born = world.app.budgets.row(KEY).born_ms
    assert (again["deferred_before_ms"], again["in_work_before_ms"]) == (born, born - UNDER_WAY_MS)
    sent = [entry.body["type"] for entry in world.happened if entry.what == "send"]
    assert sent == ["ask_again", "load"]


async def test_a_tenant_whose_ledger_is_gone_is_found_without_a_command_of_it(world: World) -> None:
    """Otherwise its posts wait for ever, because no command about them is sent to the ledger."""
    world.own(b"t1", b"t2")
    assert partition_of(world.app, b"t7") not in {partition_of(world.app, key) for key in (b"t1", b"t2")}
    world.app.started, now = True, 1000.0
    assert world.app.serving()
    async with world.agent("budget") as agent:
        await world.tell(agent, Load(tenant_id="t2", day=today(), spent=0), key=b"t2")
        world.postgres.unfinished_posts = {tenant: {"p": 0} for tenant in ("t1", "t2", "t7")}
        lost = LostLedgers(world.app, _loader(world), world.app.budgets, world.postgres, clock=lambda: now)
        world.postgres.faults = [OSError("Postgres is away")]
        await lost.look()
        assert world.sent("vision.posts") == []
        await lost.look()
        await until(lambda: world.sent("vision.budget"))
        assert [message["tenant_id"] for message in world.sent("vision.posts")] == ["t1"], "t2 has one, t7 is elsewhere"
        assert [load["tenant_id"] for load in world.sent("vision.budget")] == ["t1"]
        await lost.look()
        assert world.postgres.looked == 2, "nothing has moved since"
        now += LOOK_AGAIN_SECONDS
        await lost.look()
        assert world.postgres.looked == 3


async def test_parked_tasks_that_are_gone_are_asked_about_again(world: World) -> None:
    world.postgres.unfinished_posts = {"t1": {}}
    async with world.agent("budget") as agent:
        await loaded(world, agent)
        await world.tell(agent, Pause(tenant_id="t1"), *(reserve(world, f"p{n}") for n in range(4)), key=KEY)
        world.app.tables["parked"].data.data.clear()
        world.postgres.unfinished_posts["t1"] = {"p0": 0, "p1": 0, "p2": 0, "p3": 0}
        await world.tell(agent, Resume(tenant_id="t1"), key=KEY)
        await until(lambda: len(world.sent("vision.posts")) == 4)
    assert {message["post_id"] for message in world.sent("vision.posts")} == {"p0", "p1", "p2", "p3"}
    assert (world.app.budgets.row(KEY).first, world.app.budgets.row(KEY).next) == (4, 4)


def loaders_at_work() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if "Loader." in getattr(task.get_coro(), "__qualname__", "")]


async def test_one_that_is_gone_among_many_does_not_double_the_others(world: World) -> None:
    async with world.agent("budget") as agent:
        await loaded(world, agent)
        await world.tell(agent, Pause(tenant_id="t1"), *(reserve(world, f"p{n}") for n in range(6)), key=KEY)
        world.postgres.unfinished_posts = {"t1": {f"p{n}": 0 for n in range(6)}}
        world.app.tables["parked"].data.data.pop(next(iter(world.app.tables["parked"].data.data)))
        await world.tell(agent, Resume(tenant_id="t1"), key=KEY)
        await until(lambda: not loaders_at_work())
    assert world.sent("vision.posts") == []


async def test_a_tenant_of_another_worker_is_not_shown_here(world: World) -> None:
    async with world.agent("budget") as agent:
        await loaded(world, agent, spent=9_500)
        await world.tell(agent, reserve(world), key=KEY)
        world.happened.clear()
        world.own()
        await _tick(world, day="2999-01-01")
        assert _gauge("vision_budget_usage_gauge") is None
        assert world.sent("vision.budget") == []
        await _tick(world, day="2999-01-01")


async def test_waiting_tasks_can_be_dropped(world: World) -> None:
    async with world.agent("budget") as agent:
        await loaded(world, agent)
        await world.tell(agent, Pause(tenant_id="t1"), reserve(world), reserve(world, "p2"), key=KEY)
        await world.tell(agent, Drop(tenant_id="t1", first=1, before=2), key=KEY)
        (outcome,) = world.sent("vision.posts")
        assert (outcome["post_id"], outcome["outcome"]["details"]["dropped"]) == ("p2", True)
        assert set(world.app.tables["parked"]) == {b"t1|0"}
