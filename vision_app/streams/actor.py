"""The shell of an actor: an inbox, tables, a pure core. Commands may be redelivered; effects come at least once.

Commands of one key are handled one after the other, commands of different keys concurrently.

For each command, in this order: decide; send the effects and await them; write the rows and await their changelog
records; acknowledge. Until the row is written, a redelivered command finds the old row and decides the same again. So
every receiver of effects is idempotent. An entry of a second table is confirmed before the row that points to it, and
deleted after the row that no longer points to it. The core is in `vision_app/domain/`; this module decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import structlog

from vision_app.domain.moment import Moment
from vision_app.messages import DeadLetter, Message, decode
from vision_app.telemetry import metrics
from vision_app.telemetry.logging import bind
from vision_app.telemetry.watch import Subject, note_subjects
from vision_app.topics import MAX_MESSAGE_BYTES

from .confirmed_table import ConfirmedTable
from .dead_letters import DeadLetters
from .faust_seams import Event, Stream, Worker
from .in_flight import InFlight
from .outbox import Outbox, Oversized
from .ownership import LeftUnacked, is_ours
from .single_flight import SingleFlight

log = structlog.get_logger(__name__)

KEYS_AT_ONCE = 64
"""Commands handled at once. Each spends most of its time waiting for Kafka's acknowledgements."""
MAX_ROW_BYTES = MAX_MESSAGE_BYTES - 64 * 1024
"""Largest row by default: it has to fit into a record of the changelog, with its key and what Faust adds."""


@dataclass
class Change:
    """What the shell has to do for a command. Entries are written before the row and deleted after it."""

    send: list[Message] = field(default_factory=list)
    entries: dict[bytes, Message] = field(default_factory=dict)
    row: Message | None = None
    forget: bool = False
    expired: list[bytes] = field(default_factory=list)
    reject: str | None = None


@dataclass(frozen=True)
class Actor:
    """`decide` gets the row (or None), the decoded command and its moment. `name` labels metrics.

    `companions` are sent along with a dead-lettered command, so that its post and its ledger do not wait for it.
    """

    app: Worker
    name: str
    commands: Any
    table: ConfirmedTable
    outbox: Outbox
    dead_letters: DeadLetters
    decide: Callable[[Any, Any, Moment], Change]
    entries: ConfirmedTable | None = None
    companions: Callable[[Any, DeadLetter], Iterable[Message]] = lambda _command, _letter: ()

    async def run(self, stream: Stream) -> None:
        """The agent's body. An unexpected error of one command dead-letters that command; see `in_flight.py`."""
        turns = SingleFlight()

        async def in_turn(event: Event) -> None:
            async with turns.flight(self.app, event, event.key):
                await self._handle(event)

        flow = InFlight(
            self.app, self.name, in_turn, self.dead_letters, limit=KEYS_AT_ONCE, companions=self._companions_of
        )
        await flow.run(stream)

    async def _handle(self, event: Event) -> None:
        try:
            command = decode(self.commands, event.value)
        except ValueError as fault:
            await self._bury(event, fault, None)
            return
        metrics.ACTOR_COMMANDS.labels(actor=self.name, command=command.type).inc()
        context = _context(command)
        if {"tenant_id", "post_id"} <= context.keys():
            note_subjects(Subject(context["tenant_id"], context["post_id"]))
        with bind(**context):
            try:
                await self._apply(event, command)
            except LeftUnacked:
                raise
            except Oversized as fault:
                await self._bury(event, fault, command)
            except Exception as fault:
                metrics.UNEXPECTED_ERRORS.labels(where=self.name).inc()
                log.exception("command_failed", actor=self.name)
                await self._bury(event, fault, command)

    async def _apply(self, event: Event, command: Any) -> None:
        at = Moment(time_ms=round(event.message.timestamp * 1000), offset=event.message.offset)
        change = self.decide(self.table.row(event.key), command, at)
        if change.reject is not None:
            await self._bury(event, change.reject, command)
            return
        row = self._encoded(change.row) if change.row is not None else None
        entries = {key: self._encoded(entry) for key, entry in change.entries.items()}
        await self.outbox.send(change.send, keep_trying=lambda: is_ours(self.app, event))
        if not is_ours(self.app, event):
            raise LeftUnacked
        if self.entries is not None and entries:
            for key, entry in entries.items():
                self.entries[key] = entry
            await self.entries.confirm()
        if row is not None:
            self.table[event.key] = row
        elif change.forget:
            self.table.pop(event.key, None)
        await self.table.confirm()
        if self.entries is not None and change.expired:
            for key in change.expired:
                self.entries.pop(key, None)
            await self.entries.confirm()

    def _encoded(self, row: Message) -> bytes:
        """The JSON of a row. Raises Oversized if the changelog would refuse it, for that would end the process."""
        value = row.encode()
        if len(value) > self.app.max_row_bytes:
            raise Oversized(
                f"the {type(row).__name__} would have {len(value)} bytes, more than {self.app.max_row_bytes}"
            )
        return value

    def _companions_of(self, event: Event, letter: DeadLetter) -> Iterable[Message]:
        """The companions of a command whose handling was interrupted."""
        try:
            return self.companions(decode(self.commands, event.value), letter)
        except ValueError:
            return ()

    async def _bury(self, event: Event, fault: BaseException | str, command: Any) -> None:
        await self.dead_letters.put_event(
            event,
            fault,
            keep_trying=lambda: is_ours(self.app, event),
            companions=lambda letter: self.companions(command, letter) if command is not None else (),
        )


def _context(command: Any) -> dict[str, str]:
    event = getattr(command, "event", None) or getattr(command, "task", None) or command
    return {
        name: str(value)
        for name in ("trace_id", "post_id", "tenant_id")
        if (value := getattr(event, name, None) or getattr(command, name, None))
    }
