"""Ends the process when the recovery of the tables stands still and Kafka is not known to be away. A restart begins the
recovery anew.

Without it the worker would stay not ready, while no other worker gets its partitions. A recovery that goes on, however
slowly, is left alone. Before the first recovery has ended nobody has measured whether Kafka answers.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

import structlog

from .faust_seams import records_to_recover

log = structlog.get_logger(__name__)

EXIT_STANDSTILL = 73
LOOK_SECONDS = 5.0


class RecoveryWatch:
    """Watches a Faust app. `is_away`: whether Kafka is known to be away; then the recovery has a reason to wait."""

    def __init__(self, app: Any, stall_seconds: float, is_away: Callable[[], bool]) -> None:
        self._app, self._stall_seconds, self._is_away = app, stall_seconds, is_away
        self._left: int | None = None
        self._since = 0.0

    async def run(self) -> None:
        """Look every few seconds, until cancelled."""
        while True:
            self.look(time.monotonic())
            await asyncio.sleep(LOOK_SECONDS)

    def look(self, now: float) -> None:
        """Note how many records are left. End the process if the number has not changed for `stall_seconds`."""
        left = records_to_recover(self._app)
        if not left or left != self._left or self._is_away():
            self._left, self._since = left, now
        elif now - self._since > self._stall_seconds:
            log.critical(
                "recovery_stalled", records_left=left, seconds=round(now - self._since), exit_code=EXIT_STANDSTILL
            )
            os._exit(EXIT_STANDSTILL)
