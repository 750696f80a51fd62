"""The contract of every sink: a store to which finished posts are written in batches.

The runner (`streams/batches.py`) retries for ever on `SinkUnavailable`, and dead-letters a record named by `Rejected`
while the rest of the batch goes on.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Generic, TypeVar

Record = TypeVar("Record")


class SinkUnavailable(Exception):
    """The store cannot be reached or is overloaded. The batch is tried again, the same records in the same order."""


class Rejected(Exception):
    """The store will never take this record. `index` is its position in the batch; nothing of the batch was written."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index
        self.reason = reason


class Sink(abc.ABC, Generic[Record]):
    """A store that takes records at least once, in order per post; writing one twice changes nothing."""

    name: str
    destination = ""
    """The stream that it writes to, if its store has several; for traces."""

    @abc.abstractmethod
    async def open(self) -> None:
        """Connect and prepare (migrations, constraints). Raises SinkUnavailable; then it is called again later."""

    @abc.abstractmethod
    async def write(self, batch: Sequence[Record]) -> Sequence[Record]:
        """Write all or nothing; return the records now in force (without those older than the stored one).

        Raises SinkUnavailable (try again) or Rejected (this record never).
        """

    @abc.abstractmethod
    async def close(self) -> None:
        """Release connections. Called once."""
