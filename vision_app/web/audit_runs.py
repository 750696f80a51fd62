"""Takes accounts on request, one at a time, each in a child process, and records how it ended in Postgres.

Every worker shows what is recorded there. While an account is taken, this worker renews its row. If the worker dies,
the kernel ends the child, and the row is shown as cut off. Not here: the process (`audit_child.py`), the record
(`stores/audits.py`), who may ask (`audit.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from vision_app.audit.summary import AccountSummary
from vision_app.settings import Settings
from vision_app.stores.audits import AuditRecord, Audits, RunState
from vision_app.telemetry import metrics
from vision_app.texts import say

from .audit_child import AuditChild, AuditFailed, AuditScope
from .readers import AWAY

log = structlog.get_logger(__name__)

RENEW_SECONDS = 5.0
RECORD_TRIES = 6
RECORD_PAUSE_SECONDS = 5.0
LAST_WRITE_SECONDS = 3.0
"""For recording, when the worker stops, that the account is cut off."""
STOP_SECONDS = 10.0

Store = Callable[[], Awaitable[Audits]]
"""Gives the store of accounts. Raises one of AWAY."""
StartChild = Callable[[Settings, AuditScope], Awaitable[AuditChild]]


class WorkerStops(Exception):
    """No account is begun any more."""


@dataclass(frozen=True)
class _Ended:
    state: RunState
    result: str  # of the metric
    reason: str | None = None
    summary: AccountSummary | None = None


class AuditRuns:
    """A resource of the worker. `close` ends the child."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        worker: str,
        *,
        start_child: StartChild = AuditChild.start,
        renew_seconds: float = RENEW_SECONDS,
        pause_seconds: float = RECORD_PAUSE_SECONDS,
    ) -> None:
        self._settings, self._store, self._worker = settings, store, worker
        self._start_child = start_child
        self._renew_seconds, self._pause_seconds = renew_seconds, pause_seconds
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def open(self) -> None:
        """Nothing to prepare: most workers are never asked for an account."""

    async def close(self) -> None:
        """End the child, and record that its account is cut off."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_SECONDS)

    async def start(self, scope: AuditScope, operator: str) -> AuditRecord | None:
        """Begin an account in the background. None while another one runs, here or on another worker.

        Raises WorkerStops, and one of AWAY without Postgres.
        """
        if self._closed:
            raise WorkerStops
        begun = await (await self._store()).begin(scope.tenant_id, scope.since, operator, self._worker)
        if begun is not None:
            task = asyncio.create_task(self._run(begun, scope), name=f"audit-{begun.id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            if self._closed:
                task.cancel()
        return begun

    async def _run(self, begun: AuditRecord, scope: AuditScope) -> None:
        started = time.monotonic()
        work = asyncio.create_task(self._take(begun, scope))
        renewal = asyncio.create_task(self._renew(begun))
        try:
            await asyncio.wait({work, renewal}, return_when=asyncio.FIRST_COMPLETED)
            ended = work.result() if work.done() else _Ended("cut_off", "cut_off")
        except asyncio.CancelledError:
            stopped = say("the worker that took it stopped before the end; start it again")
            ended = _Ended("cut_off", "cut_off", stopped)
        if not work.done():
            work.cancel()
            await asyncio.wait({work})
        metrics.AUDITS.labels(result=ended.result).inc()
        metrics.AUDIT_DURATION.observe(time.monotonic() - started)
        _log(begun, ended)
        if not renewal.done():  # otherwise another worker has recorded the end
            await self._record(begun, ended, tries=1 if self._closed else RECORD_TRIES)
            renewal.cancel()

    async def _take(self, begun: AuditRecord, scope: AuditScope) -> _Ended:
        """Have the account taken. Every failure is a result."""
        try:
            child = await self._start_child(self._settings, scope)
            log.info("audit_started", audit=begun.id, operator=begun.operator, tenant_id=scope.tenant_id, pid=child.pid)
            found = await child.summary()
            return _Ended("taken", "clean" if found.clean else "discrepancies", summary=found)
        except AuditFailed as fault:
            return _Ended("failed", "timeout" if fault.late else "failed", str(fault))
        except OSError as fault:
            why = say("its process cannot be started ({fault}); free memory, then start it again", fault=fault)
            return _Ended("failed", "failed", why)
        except Exception:
            metrics.UNEXPECTED_ERRORS.labels(where="web").inc()
            log.exception("audit_broke_off", audit=begun.id)
            why = say("it failed unexpectedly; the log of worker {worker} has the reason", worker=self._worker)
            return _Ended("failed", "failed", why)

    async def _renew(self, begun: AuditRecord) -> None:
        """Returns when another worker took this one for dead."""
        while True:
            await asyncio.sleep(self._renew_seconds)
            try:
                if not await (await self._store()).renew(begun):
                    return
            except AWAY as fault:
                metrics.RETRIES.labels(stage="db").inc()
                log.warning("audit_not_renewed", audit=begun.id, error=repr(fault))

    async def _record(self, begun: AuditRecord, ended: _Ended, tries: int) -> None:
        """Record the end. If Postgres stays away, the account will be shown as cut off."""
        summary = None if ended.summary is None else ended.summary.model_dump_json()
        for attempt in range(1, tries + 1):
            try:
                async with asyncio.timeout(LAST_WRITE_SECONDS if self._closed else None):
                    if not await (await self._store()).end(begun, ended.state, ended.reason, summary):
                        log.warning("audit_result_late", audit=begun.id, state=ended.state)
                return
            except AWAY as fault:
                metrics.RETRIES.labels(stage="db").inc()
                log.error("audit_not_recorded", audit=begun.id, state=ended.state, attempt=attempt, error=repr(fault))
            if attempt < tries:
                await asyncio.sleep(self._pause_seconds)


def _log(begun: AuditRecord, ended: _Ended) -> None:
    about: dict[str, object] = {"audit": begun.id, "operator": begun.operator, "tenant_id": begun.tenant_id}
    if (found := ended.summary) is not None:
        about |= {"seconds": found.seconds, "discrepancies": found.discrepancies_total}
        if found.clean:
            log.info("audit_taken", **about)
        else:
            log.warning("audit_found_discrepancies", **about, first=found.discrepancies[0])
    elif ended.state == "cut_off":
        log.warning("audit_cut_off", **about, next_step="start it again")
    else:
        log.error("audit_failed", **about, reason=ended.reason)
