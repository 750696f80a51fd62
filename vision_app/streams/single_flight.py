"""One handler at a time per key, in the order of arrival, within this process."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from vision_app.telemetry import spans
from vision_app.telemetry.watch import waiting_for

from .faust_seams import Event, Worker
from .ownership import LeftUnacked, is_ours, while_ours


class SingleFlight:
    """Holders of the same key run one after the other, in the order in which they came."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, asyncio.Lock] = {}
        self._users: Counter[Hashable] = Counter()

    @asynccontextmanager
    async def flight(self, app: Worker, event: Event, key: Hashable) -> AsyncIterator[None]:
        """Hold the key. Raises LeftUnacked if, during the wait or after it, the worker stops or the event is not ours.

        So after one event is left un-acknowledged, no later event of its key runs in this generation.
        """
        lock = self._locks.setdefault(key, asyncio.Lock())
        self._users[key] += 1
        try:
            if self._users[key] == 1:
                await lock.acquire()  # at once
            else:
                spans.note(single_flight=True)
                with waiting_for("an earlier record of its key"):
                    await while_ours(app, event, lock.acquire())
            try:
                if app.should_stop or not is_ours(app, event):
                    raise LeftUnacked
                yield
            finally:
                lock.release()
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key], self._locks[key]
