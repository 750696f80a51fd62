"""A Faust table whose changelog records can be awaited, and whose recovery ignores outdated records.

A value is the JSON of a row, as the changelog has it: a third of the memory of nested dictionaries, written and read in
one step. A table with many rows keeps them deflated (`packed_store.py`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator
from typing import Any

import orjson
import structlog
from faust.tables.table import Table

from vision_app.domain.moment import Applied
from vision_app.messages import Message
from vision_app.telemetry import metrics
from vision_app.topics import CHANGELOG

log = structlog.get_logger(__name__)


class ConfirmedTable(Table[Any, Any]):
    """Keeps the futures of its changelog records until `confirm` awaits them. Rows are of the type `model`."""

    model: type[Message]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unconfirmed: list[Any] = []
        self._replayed: dict[Any, Applied] = {}

    def row(self, key: bytes) -> Any:
        """The row of a key, or None."""
        stored = self.get(key)
        return None if stored is None else self.model.model_validate_json(stored)

    def rows(self) -> Iterator[Any]:
        """All rows, as they are at the first one."""
        return map(self.model.model_validate_json, list(self.values()))

    def send_changelog(self, *args: Any, **kwargs: Any) -> Any:
        future = super().send_changelog(*args, **kwargs)
        self._unconfirmed.append(future)
        return future

    async def confirm(self) -> None:
        """Wait until the broker has acknowledged every record written so far, by any handler.

        If a record cannot be written, memory is ahead of the changelog and cannot be trusted. The process then ends at
        once and acknowledges nothing. The next owner of the partition recovers the row from the changelog.
        """
        pending = tuple(self._unconfirmed)
        try:
            if pending:
                await asyncio.wait(pending)  # a cancelled waiter does not cancel the records of the others
            for future in pending:
                future.result()
        except Exception as fault:  # noqa: BLE001 - on any error the process ends
            log.critical(
                "changelog_record_not_confirmed",
                table=self.name,
                error=repr(fault),
            )
            os._exit(70)
        self._unconfirmed = [future for future in self._unconfirmed if not future.done()]

    def apply_changelog_batch(self, batch: Iterable[Any]) -> None:
        """Recover rows, skipping each record that is older than an earlier one of its key.

        A worker that was cut off from the group may have written such a record late. A partition that stayed on this
        worker is replayed over the rows in memory: records older than those rows are skipped, too.
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


def changelog_table(
    app: Any, name: str, model: type[Message], partitions: int, title: str, store: str | None = None
) -> ConfirmedTable:
    """Make a table of the app whose rows are of the type `model`. `title`: for Faust's own lists.

    `store`: where its rows are kept; None: as the app's settings say.
    """
    table: ConfirmedTable = app.Table(
        name,
        key_type=bytes,
        value_type=bytes,
        help=title,
        partitions=partitions,
        extra_topic_configs=CHANGELOG,
        store=store,
    )
    table.model = model
    return table


def _applied(value: Any) -> Applied | None:
    row = orjson.loads(value) if value is not None else None
    applied = row.get("applied") if isinstance(row, dict) else None
    return Applied.model_validate(applied) if applied else None
