"""Append time and offset of a command: the only clock of the pure cores."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from vision_app.messages import Message


class Applied(Message):
    """The last command that a row applied: offset and append time (ms) of its record.

    A command is a repeat only if neither of its values is larger: a recreated topic has small offsets but later times.
    """

    offset: int = -1
    time_ms: int = 0

    def covers(self, at: Moment) -> bool:
        return at.offset <= self.offset and at.time_ms <= self.time_ms

    def then(self, at: Moment) -> Applied:
        """The row's `applied` after the command at `at`. Its time never steps back, although a broker's clock may:
        otherwise a redelivered command from before the step would look new.
        """
        return Applied(offset=at.offset, time_ms=max(self.time_ms, at.time_ms))

    def newer_than(self, other: Applied) -> bool:
        return self != other and self.offset >= other.offset and self.time_ms >= other.time_ms


@dataclass(frozen=True)
class Moment:
    """Append time (ms) and offset of the command's record; the time comes from the broker's log."""

    time_ms: int
    offset: int

    @property
    def day(self) -> str:
        """The UTC day, as 2026-11-22."""
        return datetime.fromtimestamp(self.time_ms / 1000, UTC).date().isoformat()

    @property
    def next_day(self) -> datetime:
        """The coming UTC midnight."""
        return end_of(self.day)


def end_of(day: str) -> datetime:
    """The UTC midnight that ends a day given as 2026-11-22."""
    return datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(days=1)
