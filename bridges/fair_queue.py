"""Entries that were read but not relayed yet, one queue per tenant. A tenant that sends much delays only itself.

All tenants share the streams and partitions, which are first in, first out: nothing overtakes what is in them. So the
way in relays only what the worker is about to handle (`unfinished.py`), and this queue chooses the next tenant.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from .entry_content import EntryContent


@dataclass(frozen=True)
class Held:
    """An entry of an input stream. `attempt`: whether Redis has already counted its current delivery.

    `size_bytes`: the size of its fields. `content` None: it is not held, and is read again when its turn comes.
    """

    stream: str
    entry_id: bytes
    content: EntryContent | None
    tenant_id: str
    post_id: str
    attempt: bool
    size_bytes: int = 0

    @property
    def held_bytes(self) -> int:
        return self.content.size_bytes if self.content is not None else 0


class FairQueue:
    """Tenants take turns, one entry each. The entries of one tenant stay in order."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Held]] = {}
        self._length = 0
        self.held_bytes = 0  # of the contents that are held

    def __len__(self) -> int:
        return self._length

    def put(self, held: Held) -> None:
        self._queues.setdefault(held.tenant_id, deque()).append(held)
        self._length += 1
        self.held_bytes += held.held_bytes

    def take(self, may_go: Callable[[str], bool] = lambda _: True) -> Held | None:
        """Take the next entry. A tenant for which `may_go` is False is passed over and keeps its place."""
        tenant = next(filter(may_go, self._queues), None)
        if tenant is None:
            return None
        queue = self._queues.pop(tenant)
        held = queue.popleft()
        if queue:
            self._queues[tenant] = queue  # behind all others
        self._length -= 1
        self.held_bytes -= held.held_bytes
        return held

    def clear(self) -> None:
        self._queues.clear()
        self._length = self.held_bytes = 0
