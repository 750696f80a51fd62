"""How commands take times and durations: `2h` ago, `2026-11-22T18:00` in UTC; `5m` long."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from vision_app.printable import printable as printable
from vision_app.texts import say

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION = re.compile(r"(\d+)([smhd])")
LONGEST = timedelta(days=100_000)  # 273 years: long enough for any use, and now minus this is still a valid time


class Duration(click.ParamType):
    """A number and a unit: 30s, 5m, 2h, 1d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        length = _duration(value)
        if length is None:
            self.fail(
                say(
                    "{value!r} is no duration; give a number and s, m, h or d, for example 5m; at most {days}d",
                    value=value,
                    days=LONGEST.days,
                ),
                param,
                ctx,
            )
        return length


class Moment(click.ParamType):
    """A time in the past as a duration, or an ISO 8601 time, in UTC if it names no zone."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        if (length := _duration(value)) is not None:
            return datetime.now(UTC) - length
        try:
            at = datetime.fromisoformat(value)
            return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
        except (ValueError, OverflowError):  # OverflowError: an offset leads out of the years 1 to 9999
            self.fail(say("{value!r} is no time; give 2h (ago) or 2026-11-22T18:00", value=value), param, ctx)


DURATION, MOMENT = Duration(), Moment()


def milliseconds(at: datetime | None) -> int | None:
    """Epoch milliseconds of a time that may not be given."""
    return None if at is None else round(at.timestamp() * 1000)


def clock(at_ms: int) -> str:
    """Epoch milliseconds for people, in UTC. Accepts any number, since producers choose the time in an id."""
    try:
        at = _EPOCH + timedelta(milliseconds=at_ms)
    except OverflowError:
        return say("not in the years 1 to 9999 ({at_ms} ms)", at_ms=at_ms)
    return at.isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")


def _duration(text: str) -> timedelta | None:
    match = _DURATION.fullmatch(text.strip())
    try:
        length = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else None
    except (OverflowError, ValueError):  # ValueError: more digits than Python converts to a number
        return None
    return None if length is None or length > LONGEST else length
