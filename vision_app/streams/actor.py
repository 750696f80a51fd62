"""The shell of an actor: one inbox, its tables, a pure core. State is applied exactly once, effects at least once.

For each command, in this order: decide; send the effects and await them; write the rows and await their changelog
records; acknowledge. Until the row is written a redelivered command finds the old row and decides the same again, and
whoever receives effects is idempotent. An entry of a second table is confirmed before the row that points to it, and
deleted after the row that no longer does. The core is in `vision_app/domain/`; here is no decision of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog

from vision_app.domain.moment import Moment
from vision_app.messages import Message, decode
from vision_app.telemetry import metrics
from vision_app.telemetry.logging import bind

from .confirmed_table import ConfirmedTable
from .dead_letters import DeadLetters
from .outbox import Outbox, Oversized
from .ownership import LeftUnacked, is_ours

log = structlog.get_logger(__name__)


@dataclass
class Change:
    """What a command leads to, for the shell: messages out; entries in before the row, entries out after it."""

    send: list[Message] = field(default_factory=list)
    entries: dict[bytes, Message] = field(default_factory=dict)
    row: Message | None = None
    forget: bool = False
    expired: list[bytes] = field(default_factory=list)
    reject: str | None = None


@dataclass(frozen=True)
class Actor:
    """`decide` gets the row as stored (or None), the decoded command and its moment. `name` labels metrics."""

    app: Any
    name: str
    commands: Any
    table: ConfirmedTable
    outbox: Outbox
    dead_letters: DeadLetters
    decide: Callable[[Any, Any, Moment], Change]
    entries: ConfirmedTable | None = None

    async def run(self, stream: Any) -> None:
        """The agent's body. Never raises: an unexpected error of one command dead-letters that command."""
        stream = stream.noack()
        async for event in stream.events():
            if self.app.should_stop or not is_ours(self.app, event):
                continue  # un-acknowledged: it comes again
            try:
                await self._handle(event)
            except LeftUnacked:
                continue
            await stream.ack(event)

    async def _handle(self, event: Any) -> None:
        try:
            command = decode(self.commands, event.value)
        except ValueError as fault:
            await self._bury(event, fault)
            return
        metrics.ACTOR_COMMANDS.labels(actor=self.name, command=command.type).inc()
        with bind(**_context(command)):
            try:
                await self._apply(event, command)
            except (LeftUnacked, KeyboardInterrupt):
                raise
            except Oversized as fault:
                await self._bury(event, fault)
            except Exception as fault:
                metrics.UNEXPECTED_ERRORS.labels(where=self.name).inc()
                log.exception("unexpected error; the command is dead-lettered", actor=self.name)
                await self._bury(event, fault)

    async def _apply(self, event: Any, command: Any) -> None:
        at = Moment(time_ms=round(event.message.timestamp * 1000), offset=event.message.offset)
        change = self.decide(self.table.get(event.key), command, at)
        if change.reject is not None:
            await self._bury(event, change.reject)
            return
        await self.outbox.send(change.send, keep_trying=lambda: is_ours(self.app, event))
        if not is_ours(self.app, event):
            raise LeftUnacked
        if self.entries is not None and change.entries:
            for key, entry in change.entries.items():
                self.entries[key] = entry.model_dump(mode="json")
            await self.entries.confirm()
        if change.row is not None:
            self.table[event.key] = change.row.model_dump(mode="json")
        elif change.forget:
            self.table.pop(event.key, None)
        await self.table.confirm()
        if self.entries is not None and change.expired:
            for key in change.expired:
                self.entries.pop(key, None)
            await self.entries.confirm()

    async def _bury(self, event: Any, fault: BaseException | str) -> None:
        await self.dead_letters.put_event(event, fault, keep_trying=lambda: is_ours(self.app, event))


def _context(command: Any) -> dict[str, str]:
    event = getattr(command, "event", None) or getattr(command, "task", None) or command
    return {
        name: str(value)
        for name in ("trace_id", "post_id", "tenant_id")
        if (value := getattr(event, name, None) or getattr(command, name, None))
    }
