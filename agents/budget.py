"""The budget actor, the one place that knows what a tenant may spend, and its loader, which asks Postgres.

A new ledger knows no waiting tasks. If an earlier ledger of the tenant was lost, its waiting tasks are dispatched
again: the loader finds their posts in Postgres before it loads the ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import structlog

from tables.budget import parked_entry, parked_key
from vision_app.analysis.results import failed_by_dead_letter
from vision_app.domain import budget as core
from vision_app.domain.moment import Moment
from vision_app.domain.signatures import signed
from vision_app.messages import AskAgain, BudgetCommand, DeadLetter, Grant, Load, Lost, Message, Reserve, Wake, key_of
from vision_app.streams.actor import Actor, Change
from vision_app.streams.confirmed_table import ConfirmedTable
from vision_app.streams.dead_letters import DeadLetters
from vision_app.streams.faust_seams import Stream, Worker, watch_of
from vision_app.streams.outbox import Outbox
from vision_app.streams.ownership import LeftUnacked, owns, partition_of
from vision_app.streams.timers import every
from vision_app.telemetry import metrics
from vision_app.telemetry.metrics import tenant_label
from vision_app.telemetry.watch import RecordPlace
from vision_app.topics import BUDGET

log = structlog.get_logger(__name__)

T = TypeVar("T")

LookUp = Callable[[str, str], Awaitable[tuple[int, int | None, bool]]]
"""(tenant, UTC day) -> tokens spent that day, the limit set last and whether it is paused, from Postgres."""

WAKE_SECONDS = 5.0
LOST_LEDGERS_SECONDS = 60.0
"""Pause between checks for lost ledgers among the tenants that this worker owns; at most one query each."""
LOOK_AGAIN_SECONDS = 600.0
"""The same pause while no partition moved: finds posts that Postgres did not have at the first check."""
UNDER_WAY_MS = 60_000
"""A task dispatched this shortly before a ledger began may still be on its way to it. It is not dispatched again."""
STALE_GRANT_MS = 60 * 60 * 1000
ASKED_AT_ONCE = 100
_NOT_READ = {"posts": "waiting_posts_not_read", "ledger": "ledger_not_read"}
"""What was to be read from Postgres → log event of the failure."""


class UnfinishedPosts(Protocol):
    """Postgres' record of posts that were waiting or in work. `before_ms` applies to those in work."""

    async def unfinished(self, tenant_id: str, before_ms: int) -> list[str]: ...

    async def tenants_with_unfinished(self, before_ms: int) -> list[str]: ...


class LedgerLoader:
    """Asks Postgres, until it answers, what a tenant without a row has spent, and sends a `Load`.

    Before the `Load` it has the posts dispatched again that waited in an earlier ledger of the tenant.
    """

    def __init__(self, app: Worker, outbox: Outbox, look_up: LookUp, unfinished_posts: UnfinishedPosts) -> None:
        self._app, self._outbox, self._look_up, self._unfinished_posts = app, outbox, look_up, unfinished_posts
        self._asked: dict[tuple[str, bool], asyncio.Task[None]] = {}

    def ask(self, tenant_id: str, born_ms: int) -> None:
        """Start loading a ledger that began at `born_ms`, unless it is being loaded."""
        self._start((tenant_id, True), self._load(tenant_id, born_ms))

    def reload_unfinished(self, tenant_id: str, before_ms: int) -> None:
        """After entries of the queue were lost: have all tasks dispatched again that waited before `before_ms`."""
        self._start((tenant_id, False), self._reload_unfinished(tenant_id, before_ms))

    def _start(self, what: tuple[str, bool], looking: Coroutine[Any, Any, None]) -> None:
        if what in self._asked:
            looking.close()
            return
        task = asyncio.create_task(looking)
        self._asked[what] = task
        task.add_done_callback(lambda _: self._asked.pop(what, None))

    async def _reload_unfinished(self, tenant_id: str, before_ms: int) -> None:
        async def question() -> list[str]:
            return await self._unfinished_posts.unfinished(tenant_id, before_ms)

        posts = await self._answer_to(question, tenant_id, "posts")
        if posts is not None:
            with contextlib.suppress(LeftUnacked):
                await self._ask_again(tenant_id, posts, before_ms, before_ms)

    async def _answer_to(self, question: Callable[[], Awaitable[T]], tenant_id: str, wanted: str) -> T | None:
        """Ask Postgres for what is `wanted` until it answers; None if the worker stops first."""
        while not self._app.should_stop:
            try:
                return await question()
            except Exception as fault:  # noqa: BLE001 - on any error the tenant waits, and we log it
                metrics.RETRIES.labels(stage="db").inc()
                log.warning(_NOT_READ[wanted], tenant_id=tenant_id, error=repr(fault))
                await asyncio.sleep(self._app.times.ledger_retry)
        return None

    async def _ask_again(self, tenant_id: str, posts: list[str], deferred_ms: int, in_work_ms: int) -> None:
        if posts:
            log.warning("ledger_lost", tenant_id=tenant_id, posts=len(posts))
        for start in range(0, len(posts), ASKED_AT_ONCE):
            again = [
                AskAgain(
                    tenant_id=tenant_id, post_id=post, deferred_before_ms=deferred_ms, in_work_before_ms=in_work_ms
                )
                for post in posts[start : start + ASKED_AT_ONCE]
            ]
            await self._outbox.send(again, keep_trying=lambda: not self._app.should_stop)

    async def _load(self, tenant_id: str, born_ms: int) -> None:
        before_ms = born_ms - UNDER_WAY_MS

        async def question() -> tuple[Load, list[str]]:
            day = datetime.now(UTC).date().isoformat()
            spent, limit, paused = await self._look_up(tenant_id, day)
            load = Load(tenant_id=tenant_id, day=day, spent=spent, limit=limit, paused=paused)
            return load, await self._unfinished_posts.unfinished(tenant_id, before_ms)

        found = await self._answer_to(question, tenant_id, "ledger")
        if found is not None:
            load, posts = found
            with contextlib.suppress(LeftUnacked):  # the worker stops; the tenant's next owner asks again
                await self._ask_again(tenant_id, posts, born_ms, before_ms)
                await self._outbox.send([load], keep_trying=lambda: not self._app.should_stop)


class WakeTimer:
    """Sends `Wake` to tenants for which the time has changed something, and keeps the gauges up to date."""

    def __init__(
        self,
        app: Worker,
        outbox: Outbox,
        loader: LedgerLoader,
        table: ConfirmedTable,
        rules: Callable[[], core.BudgetRules],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._app, self._outbox, self._loader, self._table, self._rules = app, outbox, loader, table, rules
        self._clock = clock
        self._stage = watch_of(app).stage("budget")

    async def send_wakes(self) -> None:
        """Check every tenant. After midnight nothing is spent. Tenants of another worker are shown by that worker."""
        now = Moment(time_ms=round(self._clock() * 1000), offset=0)
        wakes = []
        for row in self._table.rows():
            if not owns(self._app, BUDGET, key_of(row.tenant_id)):
                metrics.hide_budget(row.tenant_id)
                self._stage.stop_tracking(row.tenant_id)
                continue
            self._show(row, now)
            self._watch_queue(row, now)
            if not row.loaded:
                self._loader.ask(row.tenant_id, row.born_ms)
            if _needs_waking(row, now, self._rules()):
                wakes.append(Wake(tenant_id=row.tenant_id))
        await self._outbox.send(wakes, keep_trying=lambda: not self._app.should_stop)

    def _show(self, row: core.BudgetRow, now: Moment) -> None:
        metrics.show_budget(row.tenant_id, core.view(row, now, self._rules()))
        stale = sum(now.time_ms - grant.since_ms > STALE_GRANT_MS for grant in row.open.values())
        metrics.BUDGET_STALE_GRANTS.labels(tenant_id=tenant_label(row.tenant_id)).set(stale)

    def _watch_queue(self, row: core.BudgetRow, now: Moment) -> None:
        """Parked tasks have no handler. So tell the watch why they wait, or that there is no reason."""
        if not row.waiting:
            self._stage.stop_tracking(row.tenant_id)
            return
        key = key_of(row.tenant_id)
        reason = why_parked(row, parked_entry(self._app.parked, key, row.first), now, self._rules())
        self._stage.keep(row.tenant_id, RecordPlace(BUDGET.name, partition_of(self._app, key)), reason, row.first)


def why_parked(row: core.BudgetRow, head: core.Parked | None, now: Moment, rules: core.BudgetRules) -> str | None:
    """What the first of a tenant's parked tasks waits for. None: for nothing; it should have been granted."""
    if row.paused:
        return "the end of a pause"
    if not row.loaded:
        return "postgres"
    if len(row.open) >= rules.max_concurrent:
        return "calls of its tenant"
    spent = row.spent if row.day >= now.day else 0
    if head is not None and spent + row.reserved + head.estimate > core.effective_limit(row, rules):
        return "the budget of its tenant"
    return None


class LostLedgers:
    """Finds tenants of this worker that have waiting posts but no ledger, and has the ledger opened again.

    Only a worker that takes over a partition can find its ledgers missing. So Postgres is asked after a rebalance, and
    rarely otherwise.
    """

    def __init__(
        self,
        app: Worker,
        loader: LedgerLoader,
        table: ConfirmedTable,
        unfinished_posts: UnfinishedPosts,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app, self._loader, self._table, self._clock = app, loader, table, clock
        self._unfinished_posts = unfinished_posts
        self._looked: tuple[Any, float] | None = None

    async def look(self) -> None:
        """Check, if it is time."""
        generation, now = self._app.consumer_generation_id, self._clock()
        if self._looked and self._looked[0] == generation and now - self._looked[1] < LOOK_AGAIN_SECONDS:
            return
        if not self._app.serving():
            return
        now_ms = round(time.time() * 1000)
        try:
            tenants = await self._unfinished_posts.tenants_with_unfinished(now_ms - UNDER_WAY_MS)
        except Exception as fault:  # noqa: BLE001 - on any error we check again later, and log it
            metrics.RETRIES.labels(stage="db").inc()
            log.warning("lost_ledger_check_failed", error=repr(fault))
            return
        for tenant_id in tenants:
            if owns(self._app, BUDGET, key_of(tenant_id)) and self._table.get(key_of(tenant_id)) is None:
                self._loader.ask(tenant_id, now_ms)
        self._looked = generation, now


def _needs_waking(row: core.BudgetRow, now: Moment, rules: core.BudgetRules) -> bool:
    """Whether tasks wait and the day or the rules changed, or a grant has been open for too long."""
    overdue = any(now.time_ms - grant.since_ms >= core.LOST_AFTER_MS for grant in row.open.values())
    return overdue or bool(row.waiting and (row.day < now.day or core.outlived(row, rules)))


def budget_agent(
    app: Worker,
    outbox: Outbox,
    dead_letters: DeadLetters,
    table: ConfirmedTable,
    parked: ConfirmedTable,
    *,
    rules: Callable[[], core.BudgetRules],
    look_up: LookUp,
    unfinished_posts: UnfinishedPosts,
    grant_key: bytes,
) -> Any:
    """Build the actor's agent and its alarm clock. `rules` returns what policy and deployment allow now.

    Grants are signed with `grant_key`.
    """
    loader = LedgerLoader(app, outbox, look_up, unfinished_posts)

    def decide(row: core.BudgetRow | None, command: Any, at: Moment) -> Change:
        key = key_of(command.tenant_id)
        new_ledger = uuid.uuid4().hex[:12]
        decision = core.decide(row, command, at, rules(), lambda number: parked_entry(parked, key, number), new_ledger)
        if decision.load and decision.row is not None:
            loader.ask(command.tenant_id, decision.row.born_ms)
        missing = sum(what == "missing_parked" for what, _ in decision.observed)
        if decision.row is not None and missing > decision.row.waiting:  # the whole table was lost, not one entry
            loader.reload_unfinished(command.tenant_id, at.time_ms)
        if decision.row is not None:
            metrics.show_budget(decision.row.tenant_id, core.view(decision.row, at, rules()))
        for what, details in decision.observed:
            _observe(what, details, command.tenant_id)
        return Change(
            send=[
                *(signed(message, grant_key) if isinstance(message, Grant) else message for message in decision.send),
                *decision.charges,
            ],
            entries={parked_key(key, number): entry for number, entry in decision.park.items()},
            row=decision.row,
            expired=[parked_key(key, number) for number in decision.unpark],
        )

    actor = Actor(
        app, "budget", BudgetCommand, table, outbox, dead_letters, decide, entries=parked, companions=_companions
    )

    async def budget(stream: Stream) -> None:
        await actor.run(stream)

    every(app, WAKE_SECONDS, WakeTimer(app, outbox, loader, table, rules).send_wakes)
    every(app, LOST_LEDGERS_SECONDS, LostLedgers(app, loader, table, unfinished_posts).look)
    return app.agent(outbox.channel(BUDGET), name="budget")(budget)


def _companions(command: Any, letter: DeadLetter) -> list[Message]:
    """If the dead command carries a task, answer its post, which would otherwise wait for ever."""
    return [failed_by_dead_letter(command.task, letter)] if isinstance(command, Reserve | Lost) else []


def _observe(what: str, details: dict[str, Any], tenant_id: str) -> None:
    match what:
        case "duplicate":
            metrics.ACTOR_DUPLICATES.labels(actor="budget").inc()
        case "blocked":
            metrics.BUDGET_BLOCKS.labels(tenant_id=tenant_label(tenant_id), reason=details["reason"]).inc()
        case "exhausted":
            log.warning("Budget exhausted", **details)
        case "missing_parked":
            metrics.BUDGET_QUEUE_GAPS.inc()
            log.error(
                "parked_task_missing",
                remedy="find its post with `vision posts --stuck`, then send it again with `vision replay --post`",
                **details,
            )
        case "late_settle" | "late_lost":
            metrics.BUDGET_UNKNOWN_GRANTS.inc()
            log.warning("grant_unknown", **details)
        case _:  # "lost" or "forgotten"
            log.info("grant_charged_at_estimate", what=what, **details)
