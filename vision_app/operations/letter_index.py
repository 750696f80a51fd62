"""The dead letters of a worker's API: what there is, without the payloads.

Reading vision.dlq whole for every request would cost too much. The index reads only what has been added since the last
request, keeps a few hundred bytes of each letter, and reads a payload again when somebody asks for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import overload

import structlog

from vision_app.messages import DeadLetter, decode
from vision_app.streams.letter_ids import ID_CHARACTERS, ids_of
from vision_app.topics import DLQ

from .kafka_log import KafkaLog
from .letters import LetterKey, content, subject

log = structlog.get_logger(__name__)

MAX_LETTERS = 20_000
"""Most letters kept; beyond it the oldest are left out, and `complete` is false. About 10 MB."""
FRESH_SECONDS = 2.0
SHOWN_REASON = 500
AT_ONCE = 50
"""Letters read before other work of the event loop gets its turn."""

Connect = Callable[[], AbstractAsyncContextManager[KafkaLog]]


@dataclass(frozen=True)
class IndexedLetter:
    """A letter without its payload. `place`: partition and offset on vision.dlq. Ids are also read from the bytes."""

    key: LetterKey
    place: tuple[int, int]
    origin: str
    error: str
    reason: str
    tenant_id: str | None
    post_id: str | None
    trace_id: str | None
    attempts: int
    first_seen_ms: int
    size_bytes: int

    @property
    def id(self) -> str:
        return self.key.id

    @property
    def last_seen_ms(self) -> int:
        return self.key.last_seen_ms

    @property
    def ids(self) -> Mapping[str, str | None]:
        """Tenant and post, as `Filter` asks for them."""
        return {"tenant_id": self.tenant_id, "post_id": self.post_id}


class LetterIndex:
    """Letters by id, kept up to date on demand. `connect` opens a connection to Kafka. Methods raise KafkaError."""

    def __init__(self, connect: Connect, clock: Callable[[], float] = time.monotonic) -> None:
        self._connect, self._clock = connect, clock
        self._letters: dict[str, IndexedLetter] = {}
        self._next: dict[int, int] = {}
        self._fresh_until = float("-inf")
        self._lock = asyncio.Lock()
        self.complete = True

    async def letters(self) -> Sequence[IndexedLetter]:
        """All letters, the newest first; at most FRESH_SECONDS old."""
        async with self._lock:
            if self._clock() >= self._fresh_until:
                async with self._connect() as kafka:
                    await self._refresh(kafka)
                self._fresh_until = self._clock() + FRESH_SECONDS
            return sorted(self._letters.values(), key=lambda one: (-one.last_seen_ms, one.id))

    async def load(self, ids: Sequence[str]) -> list[DeadLetter]:
        """The whole letters of these ids, in their order; those that are gone are left out."""
        known = {one.id: one for one in await self.letters()}
        found = []
        async with self._connect() as kafka:
            for name in ids:
                if name in known and (letter := await _read(kafka, known[name])) is not None:
                    found.append(letter)
        return found

    def expire(self) -> None:
        """Read again at the next request."""
        self._fresh_until = float("-inf")

    async def _refresh(self, kafka: KafkaLog) -> None:
        stretches = await kafka.between(kafka.partitions([DLQ.name]), None, None)
        if any(self._next.get(place.partition, 0) > end for place, (_, end) in stretches.items()):
            self._letters, self._next = {}, {}  # the topic was made anew
        first = {place.partition: start for place, (start, _) in stretches.items()}
        new = {
            place: (max(start, self._next.get(place.partition, 0)), end) for place, (start, end) in stretches.items()
        }
        count = 0
        async for record in kafka.read({place: (start, end) for place, (start, end) in new.items() if start < end}):
            try:
                letter: DeadLetter = decode(DeadLetter, record.value)
            except ValueError:
                log.error("dead_letter_unreadable", place=record.id, remedy="read it with `vision kafka consume`")
                continue
            self._letters[letter.id] = index_letter(letter, (record.partition, record.offset))
            count += 1
            if count % AT_ONCE == 0:
                await asyncio.sleep(0)
        self._next = {place.partition: end for place, (_, end) in stretches.items()}
        kept = [one for one in self._letters.values() if one.place[1] >= first.get(one.place[0], one.place[1] + 1)]
        kept.sort(key=lambda one: -one.last_seen_ms)
        self.complete = len(kept) <= MAX_LETTERS
        self._letters = {one.id: one for one in kept[:MAX_LETTERS]}


async def _read(kafka: KafkaLog, known: IndexedLetter) -> DeadLetter | None:
    record = await kafka.one(DLQ.name, *known.place)
    if record is None:
        return None
    letter: DeadLetter = decode(DeadLetter, record.value)
    return letter if letter.id == known.id else None


def index_letter(letter: DeadLetter, place: tuple[int, int]) -> IndexedLetter:
    """What the index keeps of a letter at this partition and offset of vision.dlq."""
    ids = ids_of(letter)
    return IndexedLetter(
        key=LetterKey(letter.id, subject(letter), letter.last_seen_ms),
        place=place,
        origin=_short(letter.origin),
        error=_short(letter.error),
        reason=letter.reason[:SHOWN_REASON],
        tenant_id=_short(ids.get("tenant_id")),
        post_id=_short(ids.get("post_id")),
        trace_id=_short(ids.get("trace_id")),
        attempts=letter.attempts,
        first_seen_ms=letter.first_seen_ms,
        size_bytes=len(content(letter)),
    )


@overload
def _short(text: str) -> str: ...
@overload
def _short(text: str | None) -> str | None: ...
def _short(text: str | None) -> str | None:
    """The text, cut if it is longer than any valid id. The mark keeps a cut tenant from being taken for another one."""
    return text if text is None or len(text) <= ID_CHARACTERS else f"{text[:ID_CHARACTERS]}…"
