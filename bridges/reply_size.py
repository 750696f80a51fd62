"""How many entries to ask Redis for at once, so that an answer does not take more memory than meant.

Redis bounds an answer by entries only. So the number grows, doubling, while entries are small, and shrinks with the
largest entry of the last answer. What an answer may take at worst, when large entries follow small ones, is the largest
number times what an entry may have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

READ_BYTES = 8 * 1024 * 1024
"""Bytes of entries in one answer, as far as the last one lets that be foreseen; and of those relayed together."""
FIRST = 10


class ReplySize:
    def __init__(self, most: int) -> None:
        self._most = most
        self.count = min(FIRST, most)

    def note(self, sizes: Iterable[int]) -> None:
        """Learn from an answer; an empty one teaches nothing."""
        largest = max(sizes, default=None)
        if largest is not None:
            self.count = max(1, min(self._most, 2 * self.count, READ_BYTES // max(1, largest)))


def size_of(fields: Mapping[bytes, bytes]) -> int:
    """Bytes of an entry's names and values."""
    return sum(len(name) + len(value) for name, value in fields.items())
