"""A Faust table whose changelog records can be awaited, and which does not step back in time on recovery."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from typing import Any

import structlog
from faust.tables.table import Table

from vision_app.domain.moment import Applied
from vision_app.telemetry import metrics

log = structlog.get_logger(__name__)


class ConfirmedTable(Table[Any, Any]):
    """Keeps the futures of its changelog records until `confirm` awaits them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unconfirmed: list[Any] = []
        self._replayed: dict[Any, Applied] = {}

    def send_changelog(self, *args: Any, **kwargs: Any) -> Any:
        future = super().send_changelog(*args, **kwargs)
        self._unconfirmed.append(future)
        return future

    async def confirm(self) -> None:
        """Wait until the broker has every record written so far, by whomever.

        If it does not take one, memory is ahead of the log and nothing here can be trusted: the process ends at once,
        with nothing acknowledged, and whoever gets the partition recovers the row from the log.
        """
        pending = tuple(self._unconfirmed)
        try:
            if pending:
                await asyncio.wait(pending)  # nobody's cancellation reaches the others that wait for the same record
            for future in pending:
                future.result()
        except Exception as fault:  # noqa: BLE001 - whatever it is, the process ends
            log.critical(
                "changelog record not confirmed; the worker ends and recovers from the log",
                table=self.name,
                error=repr(fault),
            )
            os._exit(70)
        self._unconfirmed = [future for future in self._unconfirmed if not future.done()]

    def apply_changelog_batch(self, batch: Iterable[Any]) -> None:
        """Recovery, minus records older than one before them: a worker cut off from the group may have written late.

        A partition that stayed here is replayed over the rows in memory: what these have outgrown is no news either.
        """
        fresh = []
        for event in batch:
            applied = _applied(event.value)
            if applied is not None:
                if self._written_late(event.key, applied):
                    metrics.CHANGELOG_STALE.inc()
                    continue
                self._replayed[event.key] = applied
                held = _applied(self.data.get(event.key))
                if held is not None and held.newer_than(applied):
                    continue
            fresh.append(event)
        super().apply_changelog_batch(fresh)

    def _written_late(self, key: Any, applied: Applied) -> bool:
        before = self._replayed.get(key)
        return before is not None and before.newer_than(applied)

    async def on_recovery_completed(self, active_tps: Any, standby_tps: Any) -> None:
        self._replayed.clear()
        await super().on_recovery_completed(active_tps, standby_tps)


def _applied(value: Any) -> Applied | None:
    applied = value.get("applied") if isinstance(value, dict) else None
    return Applied.model_validate(applied) if applied else None
