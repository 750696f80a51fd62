"""How much the way in may relay now: as much as keeps the worker busy, and no more, for what is relayed is in line.

An estimate for fairness' sake, never a matter of right or wrong: the way in relays a little also when it says no.
"""

from __future__ import annotations

import time
from typing import Any

from vision_app.streams.outbox import Outbox
from vision_app.topics import BUDGET, MEDIA, POSTS, UPLOADED

LEAST, MOST = 4, 32
"""Unfinished records in the stages that tenants share: the fewest keep a slow worker busy, the most a fast one."""

SLOW_SECONDS = 0.3
"""A record unfinished for so long shows that there are too many before it; when all is well it takes 10 to 50 ms."""

SHARED = frozenset(topic.name for topic in (UPLOADED, POSTS, MEDIA, BUDGET))
"""Not the later ones: there each tenant has its own few calls under way, and each store has its own backlog."""


class Window:
    """Counts what this worker has read and not acknowledged, and what it has sent to itself and not read yet.

    Its size follows what the worker gets done: halved while records take long, one more while they do not.
    """

    def __init__(self, app: Any, outbox: Outbox) -> None:
        self._app, self._outbox = app, outbox
        self._generation: int | None = None
        self._size, self._halved_at = LEAST, 0.0

    def room(self) -> int:
        """How many more posts may be relayed now."""
        if self._generation != self._app.consumer_generation_id:
            self._generation = self._app.consumer_generation_id
            self._outbox.newest.clear()  # partitions have moved: what was sent before may have been read elsewhere
        consumer, now = self._app.consumer, time.monotonic()
        reading = [message.time_in or now for message in consumer.unacked if message.topic in SHARED]
        under_way = len(reading) + self._unread(consumer)
        self._adapt(now, longest=now - min(reading, default=now), full=under_way >= self._size)
        return max(0, self._size - under_way)

    def _adapt(self, now: float, longest: float, full: bool) -> None:
        if longest > SLOW_SECONDS:
            if now - self._halved_at > SLOW_SECONDS:
                self._size, self._halved_at = max(LEAST, self._size // 2), now
        elif full:
            self._size = min(MOST, self._size + 1)

    def _unread(self, consumer: Any) -> int:
        ours = consumer.assignment()
        unread = 0
        for tp, (first, newest) in self._outbox.newest.items():
            if tp.topic in SHARED and tp in ours:
                read = consumer._read_offset[tp]  # as Faust keeps it; None: nothing was read yet
                unread += max(0, newest - max(first - 1, -1 if read is None else read))
        return unread
