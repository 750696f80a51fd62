"""How much the way in may relay now: as much as keeps the worker busy, and no more, for what is relayed is in line.

An estimate for fairness' sake, never a matter of right or wrong: the way in relays a little also when it says no.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterable
from typing import Any

from faust.types import TP

from vision_app.streams.outbox import Outbox
from vision_app.topics import BUDGET, MEDIA, POSTS, UPLOADED

LEAST, MOST = 4, 16
"""Unfinished records in the stages that tenants share: the fewest keep a slow worker busy, the most a fast one."""

SLOW_SECONDS = 0.2
"""A record unfinished for so long shows that there are too many before it; when all is well it takes 10 to 50 ms."""

SHARED = frozenset(topic.name for topic in (UPLOADED, POSTS, MEDIA, BUDGET))
"""Not the later ones: there each tenant has its own few calls under way, and each store has its own backlog."""


class Window:
    """Counts what this worker has read and not acknowledged, and what it has sent to itself and not read yet.

    Its size follows what the worker gets done: halved while records take long, one more while they do not.
    """

    def __init__(self, app: Any, outbox: Outbox) -> None:
        self._app = app
        self._generation: int | None = None
        self._sent: dict[TP, deque[tuple[int, float]]] = defaultdict(deque)  # offset and time of what is not read yet
        self._size, self._changed_at = LEAST, 0.0
        outbox.on_sent = self._note

    def room(self) -> int:
        """How many more posts may be relayed now."""
        if self._generation != self._app.consumer_generation_id:
            self._generation = self._app.consumer_generation_id
            self._sent.clear()  # partitions have moved: what was sent before may have been read elsewhere
        consumer, now = self._app.consumer, time.monotonic()
        since = [message.time_in or now for message in consumer.unacked if message.topic in SHARED]
        since += [at for sent in self._unread(consumer) for _, at in sent]
        self._adapt(now, longest=now - min(since, default=now), full=len(since) >= self._size)
        return max(0, self._size - len(since))

    def _note(self, tp: TP, offset: int) -> None:
        if tp.topic in SHARED:
            self._sent[tp].append((offset, time.monotonic()))

    def _unread(self, consumer: Any) -> Iterable[deque[tuple[int, float]]]:
        ours = consumer.assignment()
        for tp, sent in self._sent.items():
            read = consumer._read_offset[tp]  # as Faust keeps it; None: nothing was read yet
            while sent and (tp not in ours or (read is not None and sent[0][0] <= read)):
                sent.popleft()
        return self._sent.values()

    def _adapt(self, now: float, longest: float, full: bool) -> None:
        """One change per `SLOW_SECONDS`: what the last one did is seen only when its records are through."""
        if now - self._changed_at <= SLOW_SECONDS:
            return
        if longest > SLOW_SECONDS:
            self._size, self._changed_at = max(LEAST, self._size // 2), now
        elif full:
            self._size, self._changed_at = min(MOST, self._size + 1), now
