"""The budget actor: the one place that knows what a tenant may spend, and the loader of what Postgres remembers."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import structlog

from tables.budget import parked_entry, parked_key
from vision_app.domain import budget as core
from vision_app.domain.moment import Moment
from vision_app.messages import BudgetCommand, DeadLetter, Load, Lost, Message, Reserve, Wake, key_of
from vision_app.streams.actor import Actor, Change
from vision_app.streams.confirmed_table import ConfirmedTable
from vision_app.streams.dead_letters import DeadLetters
from vision_app.streams.outbox import Outbox
from vision_app.streams.ownership import LeftUnacked, owns, partition_of
from vision_app.telemetry import metrics
from vision_app.telemetry.metrics import tenant_label
from vision_app.telemetry.watch import Place, watch_of
from vision_app.topics import BUDGET

from .results import buried
from .timers import every

log = structlog.get_logger(__name__)

LookUp = Callable[[str, str], Awaitable[tuple[int, int | None, bool]]]
"""(tenant, UTC day) -> tokens spent that day, the limit set last and whether it is paused, from Postgres."""

WAKE_SECONDS = 5.0
STALE_GRANT_MS = 60 * 60 * 1000
RETRY_SECONDS = 2.0


class Loader:
    """Asks Postgres for what a tenant without a row has spent, and answers with a `Load`; tries for ever."""

    def __init__(self, app: Any, outbox: Outbox, look_up: LookUp) -> None:
        self._app, self._outbox, self._look_up = app, outbox, look_up
        self._asked: dict[str, asyncio.Task[None]] = {}

    def ask(self, tenant_id: str) -> None:
        """Start looking, unless somebody already is."""
        if tenant_id not in self._asked:
            task = asyncio.create_task(self._load(tenant_id))
            self._asked[tenant_id] = task
            task.add_done_callback(lambda _: self._asked.pop(tenant_id, None))

    async def _load(self, tenant_id: str) -> None:
        while not self._app.should_stop:
            day = datetime.now(UTC).date().isoformat()
            try:
                spent, limit, paused = await self._look_up(tenant_id, day)
            except Exception as fault:  # noqa: BLE001 - whatever Postgres says: the tenant waits, and we say so
                metrics.RETRIES.labels(stage="db").inc()
                log.warning(
                    "budget of a tenant cannot be loaded; its tasks wait", tenant_id=tenant_id, error=repr(fault)
                )
                await asyncio.sleep(RETRY_SECONDS)
                continue
            load = Load(tenant_id=tenant_id, day=day, spent=spent, limit=limit, paused=paused)
            with contextlib.suppress(LeftUnacked):  # the worker stops; whoever gets the tenant asks again
                await self._outbox.send([load], keep_trying=lambda: not self._app.should_stop)
            return


class AlarmClock:
    """Sends `Wake` where time alone has changed something, and keeps the gauges true."""

    def __init__(
        self, app: Any, outbox: Outbox, loader: Loader, table: ConfirmedTable, rules: Callable[[], core.Rules]
    ) -> None:
        self._app, self._outbox, self._loader, self._table, self._rules = app, outbox, loader, table, rules
        self._stage = watch_of(app).stage("budget")

    async def ring(self) -> None:
        """One look at every tenant. After midnight nothing is spent; what another worker owns is shown by that one."""
        now = Moment(time_ms=round(time.time() * 1000), offset=0)
        wakes = []
        for row in [core.BudgetRow.model_validate(stored) for stored in list(self._table.values())]:
            if not owns(self._app, BUDGET, key_of(row.tenant_id)):
                metrics.hide_budget(row.tenant_id)
                self._stage.let_go(row.tenant_id)
                continue
            self._show(row, now)
            self._watch_queue(row, now)
            if not row.loaded:
                self._loader.ask(row.tenant_id)
            if _needs_waking(row, now, self._rules()):
                wakes.append(Wake(tenant_id=row.tenant_id))
        await self._outbox.send(wakes, keep_trying=lambda: not self._app.should_stop)

    def _show(self, row: core.BudgetRow, now: Moment) -> None:
        metrics.show_budget(row.tenant_id, core.view(row, now, self._rules()))
        stale = sum(now.time_ms - grant.since_ms > STALE_GRANT_MS for grant in row.open.values())
        metrics.BUDGET_STALE_GRANTS.labels(tenant_id=tenant_label(row.tenant_id)).set(stale)

    def _watch_queue(self, row: core.BudgetRow, now: Moment) -> None:
        """No handler holds what is parked: tell the watch why it waits, or that there is no reason."""
        if not row.waiting:
            self._stage.let_go(row.tenant_id)
            return
        key = key_of(row.tenant_id)
        reason = why_parked(row, parked_entry(self._app.parked, key, row.first), now, self._rules())
        self._stage.keep(row.tenant_id, Place(BUDGET.name, partition_of(self._app, key)), reason, row.first)


def why_parked(row: core.BudgetRow, head: core.Parked | None, now: Moment, rules: core.Rules) -> str | None:
    """What the first of a tenant's parked tasks waits for; None: for nothing, it should have been granted."""
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


def _needs_waking(row: core.BudgetRow, now: Moment, rules: core.Rules) -> bool:
    """A new day or new rules for those who wait, or a grant that is open for too long."""
    overdue = any(now.time_ms - grant.since_ms >= core.LOST_AFTER_MS for grant in row.open.values())
    return overdue or bool(row.waiting and (row.day < now.day or core.outlived(row, rules)))


def budget_agent(
    app: Any,
    outbox: Outbox,
    dead_letters: DeadLetters,
    table: ConfirmedTable,
    parked: ConfirmedTable,
    *,
    rules: Callable[[], core.Rules],
    look_up: LookUp,
) -> Any:
    """Build the actor's agent and its alarm clock. `rules` gives what policy and deployment allow now."""
    loader = Loader(app, outbox, look_up)

    def decide(stored: Any, command: Any, at: Moment) -> Change:
        row = core.BudgetRow.model_validate(stored) if stored else None
        key = key_of(command.tenant_id)
        new_ledger = uuid.uuid4().hex[:12]
        decision = core.decide(row, command, at, rules(), lambda number: parked_entry(parked, key, number), new_ledger)
        if decision.load:
            loader.ask(command.tenant_id)
        if decision.row is not None:
            metrics.show_budget(decision.row.tenant_id, core.view(decision.row, at, rules()))
        for what, details in decision.observed:
            _observe(what, details, command.tenant_id)
        return Change(
            send=decision.send,
            entries={parked_key(key, number): entry for number, entry in decision.park.items()},
            row=decision.row,
            expired=[parked_key(key, number) for number in decision.unpark],
        )

    actor = Actor(
        app, "budget", BudgetCommand, table, outbox, dead_letters, decide, entries=parked, companions=_companions
    )

    async def budget(stream: Any) -> None:
        await actor.run(stream)

    every(app, WAKE_SECONDS, AlarmClock(app, outbox, loader, table, rules).ring)
    return app.agent(outbox.channel(BUDGET), name="budget")(budget)


def _companions(command: Any, letter: DeadLetter) -> list[Message]:
    """Whoever loses a command that carries a task answers the post, which would wait for ever."""
    return [buried(command.task, letter)] if isinstance(command, Reserve | Lost) else []


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
            log.error("a parked task is gone; replay the tenant's posts of today", **details)
        case "late_settle" | "late_lost":
            metrics.BUDGET_UNKNOWN_GRANTS.inc()
            log.warning("settlement of a grant the ledger no longer knows", **details)
        case _:
            log.info("budget", what=what, **details)
