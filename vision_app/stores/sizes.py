"""Remembers the sizes of objects that this process saw, so that a write need not ask the size of what it replaces.

The sizes are estimates: another process may have written meanwhile. Listings repair the accounts kept with them.
"""

from __future__ import annotations

import time
from collections import OrderedDict

MAX_KEYS = 10_000
KEEP_SECONDS = 120.0


class Sizes:
    """The last `MAX_KEYS` objects that were read, written or found missing."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, tuple[int | None, float]] = OrderedDict()

    def note(self, key: str, size_bytes: int | None) -> None:
        """`size_bytes` None: there is no such object."""
        self._seen[key] = size_bytes, time.monotonic()
        self._seen.move_to_end(key)
        if len(self._seen) > MAX_KEYS:
            self._seen.popitem(last=False)

    def knows(self, key: str) -> bool:
        """Whether the size is remembered, also as missing."""
        return key in self._seen and time.monotonic() - self._seen[key][1] < KEEP_SECONDS

    def __getitem__(self, key: str) -> int | None:
        return self._seen[key][0]
