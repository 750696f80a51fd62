"""A repeated log sentence is written ten times. Then it is counted, and the count is written once a minute.

It is in the handler, so it applies to all loggers, ours and the libraries'. Two lines are the same sentence if only
their times differ. In a library's text and in our field `error`, numbers are ignored, too. Lines about different posts,
traces or tenants are never the same. `vision_log_lines_counted_total` counts the lines that are not written.
"""

from __future__ import annotations

import copy
import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from . import metrics

SHOWN_IN_FULL = 10
"""This many equal lines within an interval are written."""
INTERVAL_SECONDS = 60.0
MAX_SENTENCES = 1000
"""Most sentences remembered. The least recent one is forgotten first, after its count is written."""

_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\d+")
_PASSING = frozenset({"timestamp", "attempt", "_record", "_from_structlog"})
"""Our fields that only distinguish one try from the next."""


@dataclass
class _RepeatedLine:
    record: logging.LogRecord  # the last one
    since: float  # the beginning of the interval
    last: float
    told: int = 0  # lines written in this interval
    counted: int = 0  # lines counted and not reported yet


class Summarising(logging.StreamHandler[Any]):
    """Writes lines, and for repeated ones their count. `emit` runs under the handler's lock."""

    clock: Callable[[], float] = staticmethod(time.monotonic)
    interval_seconds = INTERVAL_SECONDS

    def __init__(self, stream: Any = None) -> None:
        super().__init__(stream)
        self._said: OrderedDict[Hashable, _RepeatedLine] = OrderedDict()
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sentence = sentence_of(record)
        except Exception:  # noqa: BLE001 - its text cannot be made: super().emit meets the same error and reports it
            super().emit(record)
            return
        now = self.clock()
        said = self._said.get(sentence)
        if said is None or now - said.last >= self.interval_seconds:
            if said is not None:
                self._report(said, now)
            said = self._said[sentence] = _RepeatedLine(record, now, now)
        elif now - said.since >= self.interval_seconds:
            self._report(said, now)  # also if nothing was counted: the next interval begins
        self._said.move_to_end(sentence)
        said.record, said.last = record, now
        if said.told < SHOWN_IN_FULL:
            said.told += 1
            last_one = said.told == SHOWN_IN_FULL
            super().emit(_with(record, further=_FURTHER.format(self.interval_seconds)) if last_one else record)
        else:
            said.counted += 1
            metrics.LOG_LINES_COUNTED.labels(level=record.levelname.lower()).inc()
            self._remind()
        while len(self._said) > MAX_SENTENCES:
            self._report(self._said.popitem(last=False)[1], now)

    def report_due(self) -> None:
        """Write the counts of the intervals that are over."""
        self.acquire()
        try:
            self._timer = None
            now = self.clock()
            for said in list(self._said.values()):
                if said.counted and now - said.since >= self.interval_seconds:
                    self._report(said, now)
            if any(said.counted for said in self._said.values()):
                self._remind()
        finally:
            self.release()

    def close(self) -> None:
        """Write the remaining counts. No further line will be written."""
        self.acquire()
        try:
            if self._timer is not None:
                self._timer.cancel()
            for said in self._said.values():
                self._report(said, self.clock())
            self._said.clear()
        finally:
            self.release()
        super().close()

    def _report(self, said: _RepeatedLine, now: float) -> None:
        """Write one line for the counted ones, if there are any. The sentence's next interval begins."""
        if said.counted:
            super().emit(_with(said.record, repeated=said.counted, within_seconds=round(now - said.since, 1)))
        said.told = SHOWN_IN_FULL if said.counted > SHOWN_IN_FULL else 0  # if it has become rare, it is written again
        said.since, said.counted = now, 0

    def _remind(self) -> None:
        """Start a timer, so that the count is written even if no further line is logged."""
        if self._timer is None:
            self._timer = threading.Timer(self.interval_seconds, self.report_due)
            self._timer.daemon = True
            self._timer.start()


_FURTHER = "written ten times; equal lines are now counted, and the count is written every {:g} s"


def sentence_of(record: logging.LogRecord) -> Hashable:
    """The key that is equal for lines of the same sentence."""
    if isinstance(record.msg, dict):  # structlog's
        fields = sorted((str(name), _value(name, value)) for name, value in record.msg.items() if name not in _PASSING)
        return (record.name, record.levelno, *fields)
    return record.name, record.levelno, _without_numbers(record.getMessage()), _fault(record.exc_info)


def _value(name: str, value: Any) -> str:
    if name == "exc_info":
        return _fault(value)
    return _without_numbers(str(value)) if name == "error" else str(value)


def _fault(exc_info: Any) -> str:
    fault = exc_info[1] if isinstance(exc_info, tuple) else exc_info
    return _without_numbers(repr(fault)) if isinstance(fault, BaseException) else ""


def _without_numbers(text: str) -> str:
    return _NUMBERS.sub("#", text)


def _with(record: logging.LogRecord, **fields: Any) -> logging.LogRecord:
    """The same line with more fields."""
    more = copy.copy(record)
    if isinstance(record.msg, dict):
        more.msg = {**record.msg, **fields}
    else:
        more.__dict__.update(fields)
    return more
