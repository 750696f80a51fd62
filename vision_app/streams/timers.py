"""Timers whose errors do not end the worker: an error is counted and logged, and the next turn tries again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from vision_app.streams.ownership import LeftUnacked
from vision_app.telemetry import metrics
from vision_app.telemetry.watch import RecordPlace

from .faust_seams import Worker, watch_of

log = structlog.get_logger(__name__)


def every(app: Worker, seconds: float, turn: Callable[[], Awaitable[None]]) -> None:
    """Run `turn` every `seconds`, from the end of table recovery until the worker stops."""
    stage = watch_of(app).stage("timers")

    async def guarded() -> None:
        try:
            with stage.work(RecordPlace(turn.__name__)):
                await turn()
        except LeftUnacked:
            return  # the worker stops
        except Exception:
            metrics.UNEXPECTED_ERRORS.labels(where="timers").inc()
            log.exception("timer_failed", timer=turn.__name__)

    app.timer(seconds, name=turn.__name__)(guarded)
