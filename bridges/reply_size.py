"""Chooses how many entries to ask Redis for at once, so that a reply does not take too much memory.

Redis bounds a reply only by its number of entries. So the number doubles while entries are small, and shrinks according
to the largest entry of the last reply. In the worst case, when large entries follow small ones, a reply takes the
largest number times the largest size of an entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

READ_BYTES = 8 * 1024 * 1024
"""Intended bytes of one reply, estimated from the last one; also the bytes relayed together."""
FIRST = 10


class ReplySize:
    """`count` entries are to be asked for next: at most `most`, and about `read_bytes`."""

    def __init__(self, most: int, read_bytes: int = READ_BYTES) -> None:
        self._most, self._read_bytes = most, read_bytes
        self.count = min(FIRST, most)

    def note(self, sizes: Iterable[int]) -> None:
        """Adapt to the entry sizes of a reply. An empty one changes nothing."""
        largest = max(sizes, default=None)
        if largest is not None:
            self.count = max(1, min(self._most, 2 * self.count, self._read_bytes // max(1, largest)))


def size_of(fields: Mapping[bytes, bytes]) -> int:
    """Bytes of an entry's names and values."""
    return sum(len(name) + len(value) for name, value in fields.items())
