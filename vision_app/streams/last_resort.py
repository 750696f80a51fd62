"""Ends the process at once: when a stop takes too long, and when an event cannot be ended.

On a stop, clients try to sign off from services that may be gone. Without Kafka, for example, leaving the group is
tried for ever. A sudden end loses nothing: un-acknowledged events are redelivered.
"""

from __future__ import annotations

import os
import threading
from typing import Any, NoReturn

import structlog

log = structlog.get_logger(__name__)

EXIT_STUCK = 71
EXIT_UNENDED = 72
"""An event could neither be handled nor dead-lettered, for a reason that is not in the event."""
GOODBYE_SECONDS = 10.0
"""Time to leave the group and close connections, after the time for the calls in flight."""


class LastResort:
    """Armed when the stop begins, disarmed when it is over. A thread, because the event loop may be stuck."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def arm(self, seconds: float) -> None:
        self.disarm()
        self._timer = threading.Timer(seconds, _end, [seconds])
        self._timer.daemon = True
        self._timer.start()

    def disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _end(seconds: float) -> None:
    log.critical("stop_timeout", after_seconds=seconds, exit_code=EXIT_STUCK)
    os._exit(EXIT_STUCK)


def end_process(what: str, fault: BaseException | None = None, **place: Any) -> NoReturn:
    """End the process now. Otherwise an event that nothing works on stays open while the worker looks healthy.

    All un-acknowledged events are redelivered after the restart. `what` says what could not be done, `place` where.
    """
    log.critical(
        "worker_aborted",
        what=what,
        exit_code=EXIT_UNENDED,
        exc_info=fault,
        remedy="if this repeats, report the traceback and set the record aside: `vision dlq take`",
        **place,
    )
    os._exit(EXIT_UNENDED)
