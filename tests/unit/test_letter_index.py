"""The index of dead letters behind the API: reads only what is new, forgets what the topic has lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import TopicPartition

from vision_app.messages import DeadLetter
from vision_app.operations.kafka_log import Record
from vision_app.operations.letter_index import FRESH_SECONDS, MAX_LETTERS, LetterIndex
from vision_app.topics import DLQ


class Topic:
    """vision.dlq with one partition, as `KafkaLog` shows it. Counts the records that were read."""

    def __init__(self) -> None:
        self.records: dict[int, bytes] = {}
        self.begin = self.end = 0
        self.read_records = 0

    def add(self, *letters: DeadLetter | bytes) -> None:
        for letter in letters:
            self.records[self.end] = letter if isinstance(letter, bytes) else letter.encode()
            self.end += 1

    def delete_before(self, offset: int) -> None:
        self.begin = offset

    def partitions(self, topics: Iterable[str]) -> list[TopicPartition]:
        return [TopicPartition(topic, 0) for topic in topics]

    async def between(self, places: Any, since: None, until: None) -> dict[TopicPartition, tuple[int, int]]:
        return {place: (self.begin, self.end) for place in places if self.begin < self.end}

    async def read(self, stretches: Mapping[TopicPartition, tuple[int, int]]) -> AsyncIterator[Record]:
        for place, (start, end) in stretches.items():
            for offset in range(start, end):
                self.read_records += 1
                yield Record(place.topic, 0, offset, 0, None, self.records[offset])

    async def one(self, topic: str, partition: int, offset: int) -> Record | None:
        assert topic == DLQ.name
        known = self.begin <= offset < self.end
        return Record(topic, partition, offset, 0, None, self.records[offset]) if known else None


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def letter(name: str, at: int = 0, **more: Any) -> DeadLetter:
    known = {"id": name, "origin": "vision.media", "error": "X", "reason": "r", "value": "v", "code_version": "1"}
    return DeadLetter.model_validate({**known, "first_seen_ms": at, "last_seen_ms": at, **more})


class Indexed:
    def __init__(self) -> None:
        self.topic, self.clock = Topic(), Clock()

        @asynccontextmanager
        async def connect() -> AsyncIterator[Any]:
            yield self.topic

        self.index = LetterIndex(connect, self.clock)

    async def ids(self) -> list[str]:
        self.clock.now += FRESH_SECONDS
        return [one.id for one in await self.index.letters()]


@pytest.fixture
def indexed() -> Indexed:
    return Indexed()


async def test_letters_are_listed_newest_first_and_a_letter_written_twice_once(indexed: Indexed) -> None:
    indexed.topic.add(letter("a", 1), letter("b", 3), letter("c", 2), letter("a", 4))
    assert await indexed.ids() == ["a", "b", "c"]


async def test_only_what_is_new_is_read(indexed: Indexed) -> None:
    indexed.topic.add(letter("a", 1), letter("b", 2))
    await indexed.ids()
    indexed.topic.add(letter("c", 3))
    assert await indexed.ids() == ["c", "b", "a"]
    assert await indexed.ids() == ["c", "b", "a"]
    assert indexed.topic.read_records == 3


async def test_within_two_seconds_nothing_is_asked_unless_something_was_changed(indexed: Indexed) -> None:
    indexed.topic.add(letter("a"))
    await indexed.ids()
    indexed.topic.add(letter("b"))
    assert [one.id for one in await indexed.index.letters()] == ["a"]
    indexed.index.expire()
    assert len(await indexed.index.letters()) == 2


async def test_what_retention_deleted_is_forgotten(indexed: Indexed) -> None:
    indexed.topic.add(letter("a", 1), letter("b", 2))
    await indexed.ids()
    indexed.topic.delete_before(1)
    assert await indexed.ids() == ["b"]
    indexed.topic.delete_before(2)
    assert await indexed.ids() == []


async def test_a_topic_made_anew_is_read_anew(indexed: Indexed) -> None:
    indexed.topic.add(letter("a", 1), letter("b", 2))
    await indexed.ids()
    indexed.topic.__init__()  # type: ignore[misc]  # a new topic in place of the old one
    indexed.topic.add(letter("c", 3))
    assert await indexed.ids() == ["c"]


async def test_an_unreadable_record_is_passed_over(indexed: Indexed) -> None:
    indexed.topic.add(b"no letter", letter("a"))
    assert await indexed.ids() == ["a"]


async def test_ids_are_also_found_in_the_bytes(indexed: Indexed) -> None:
    indexed.topic.add(letter("a", value='{"tenant_id": "t9", "post_id": "p9"', key=None))
    await indexed.ids()
    (one,) = await indexed.index.letters()
    assert (one.tenant_id, one.post_id, one.size_bytes) == ("t9", "p9", 35)


async def test_payloads_are_read_again_when_asked_for(indexed: Indexed) -> None:
    indexed.topic.add(letter("a", value="first"), letter("b", value="second"))
    found = await indexed.index.load(["b", "nobody", "a"])
    assert [(one.id, one.value) for one in found] == [("b", "second"), ("a", "first")]
    indexed.topic.delete_before(1)
    assert [one.id for one in await indexed.index.load(["a", "b"])] == ["b"]


async def test_beyond_a_number_the_oldest_are_left_out_and_it_says_so(indexed: Indexed) -> None:
    indexed.topic.add(*(letter(f"l{n}", n) for n in range(MAX_LETTERS + 5)))
    found = await indexed.ids()
    assert (len(found), found[-1]) == (MAX_LETTERS, "l5")
    assert not indexed.index.complete


async def test_ids_of_any_length_are_kept_short_and_name_no_other_tenant(indexed: Indexed) -> None:
    indexed.topic.add(letter("a", tenant_id="t" * 1_000_000, post_id="p" * 257, trace_id="x" * 256))
    await indexed.ids()
    (one,) = await indexed.index.letters()
    assert one.tenant_id == "t" * 256 + "…"
    assert (one.post_id, one.trace_id) == ("p" * 256 + "…", "x" * 256)
