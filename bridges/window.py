"""How much the way in may relay now: as much as keeps the worker busy, and no more, for what is relayed is in line.

An estimate for fairness' sake, never a matter of right or wrong: the way in relays a little also when it says no.
"""

from __future__ import annotations

from typing import Any

from vision_app.streams.outbox import Outbox
from vision_app.topics import BUDGET, MEDIA, POSTS, UPLOADED

WINDOW = 32
"""Unfinished records in the stages that tenants share: what a worker does in about a third of a second."""

SHARED = frozenset(topic.name for topic in (UPLOADED, POSTS, MEDIA, BUDGET))
"""Not the later ones: there each tenant has its own few calls under way, and each store has its own backlog."""


class Window:
    """Counts what this worker has read and not acknowledged, and what it has sent to itself and not read yet."""

    def __init__(self, app: Any, outbox: Outbox) -> None:
        self._app, self._outbox = app, outbox
        self._generation: int | None = None

    def room(self) -> int:
        """How many more posts may be relayed now."""
        if self._generation != self._app.consumer_generation_id:
            self._generation = self._app.consumer_generation_id
            self._outbox.newest.clear()  # partitions have moved: what was sent before may have been read elsewhere
        consumer = self._app.consumer
        reading = sum(message.topic in SHARED for message in consumer.unacked)
        return max(0, WINDOW - reading - self._unread(consumer))

    def _unread(self, consumer: Any) -> int:
        ours = consumer.assignment()
        unread = 0
        for tp, (first, newest) in self._outbox.newest.items():
            if tp.topic in SHARED and tp in ours:
                read = consumer._read_offset[tp]  # as Faust keeps it; None: nothing was read yet
                unread += max(0, newest - max(first - 1, -1 if read is None else read))
        return unread
