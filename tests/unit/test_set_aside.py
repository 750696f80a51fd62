"""A record that an operator sets aside: its handler is interrupted or not started; letter and companions are sent."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as RedisAway

from tests.fakes import FakeApp, FakeEvent, FakeStream, event, until
from tests.unit.test_actor import World
from tests.unit.test_batches import FakeSink, read, record
from tests.unit.test_in_flight import flow_of, running
from vision_app.messages import Release
from vision_app.streams.batches import Batches
from vision_app.streams.dead_letters import DeadLetters
from vision_app.streams.faust_seams import place_of, watch_of
from vision_app.streams.outbox import Outbox
from vision_app.streams.set_aside import KEEP_SECONDS, KEY, Marks, mark, parse_place
from vision_app.telemetry import metrics
from vision_app.telemetry.watch import RecordPlace


class FakeRedis:
    """One hash; `away` is raised by all calls."""

    def __init__(self) -> None:
        self.marks: dict[bytes, bytes] = {}
        self.away: Exception | None = None

    async def info(self, section: str) -> dict[str, int]:
        assert section == "cluster"
        if self.away:
            raise self.away
        return {"cluster_enabled": 0}

    async def hgetall(self, key: str) -> dict[bytes, bytes]:
        assert key == KEY
        if self.away:
            raise self.away
        return dict(self.marks)

    async def hset(self, key: str, field: str, value: bytes) -> None:
        self.marks[field.encode()] = value

    async def hdel(self, key: str, *fields: str) -> None:
        for field in fields:
            del self.marks[field.encode()]


class Setup:
    def __init__(self) -> None:
        self.app, self.stream, self.redis = FakeApp(), FakeStream(), FakeRedis()
        self.app.marks = self.marks = Marks(self.redis, watch_of(self.app))
        self.begun: list[int] = []

    async def mark(self, marked: FakeEvent, *, later_ms: int = 0) -> None:
        record_ms = round(marked.message.timestamp * 1000) + later_ms
        await mark(self.redis, place_of(marked), "too big", "anna", record_ms)

    async def hangs(self, given: FakeEvent) -> None:
        """A handler that never ends the first event."""
        self.begun.append(given.message.offset)
        if given.message.offset == 0:
            await asyncio.Event().wait()

    @property
    def letters(self) -> list[dict[str, Any]]:
        return self.app.values("vision.dlq")


async def test_a_cancelled_handler_lets_its_partition_continue() -> None:
    setup = Setup()
    errors = metrics.UNEXPECTED_ERRORS.labels(where="analysis")._value.get()
    setup.stream.put(event(0), event(1))
    async with running(flow_of(setup.app, setup.hangs, limit=2), setup.stream):
        await until(lambda: setup.begun == [0, 1])
        await setup.marks.refresh()
        assert setup.stream.offsets == []
        await setup.mark(event(0))
        await setup.marks.refresh()
        await until(lambda: setup.stream.offsets == [0, 1])
    [letter] = setup.letters
    assert (letter["id"], letter["error"], letter["reason"]) == ("topic-0-0", "SetAside", "set aside by anna: too big")
    assert [sent["grant_id"] for sent in setup.app.values("vision.budget")] == ["topic-0-0"], "and its companions"
    assert metrics.UNEXPECTED_ERRORS.labels(where="analysis")._value.get() == errors, "that was no error"


async def test_a_marked_record_that_is_redelivered_is_not_handled() -> None:
    setup = Setup()
    await setup.mark(event(0))
    await setup.marks.open()
    setup.stream.put(event(0), event(1))
    async with running(flow_of(setup.app, setup.hangs, limit=2), setup.stream):
        await until(lambda: setup.stream.offsets == [0, 1])
    assert setup.begun == [1]
    assert [letter["id"] for letter in setup.letters] == ["topic-0-0"]


async def test_a_cancelled_command_sends_its_companions_and_frees_its_key() -> None:
    setup, world = Setup(), World()
    setup.app = world.app
    setup.app.marks = setup.marks = Marks(setup.redis, watch_of(world.app))
    object.__setattr__(world.actor, "companions", lambda command, letter: [Release(tenant_id="t", grant_id=letter.id)])
    world.table.open.clear()  # no row is confirmed: the first command hangs
    world.put(b"a", b"a")
    async with world.running():
        await until(lambda: world.decided == [(b"a", 0)])
        await setup.mark(event(0))
        await setup.marks.refresh()
        await until(lambda: len(world.decided) == 2)
        world.table.open.set()
        await until(lambda: world.stream.offsets == [0, 1])
    assert [letter["error"] for letter in setup.letters] == ["SetAside"]
    assert [sent["grant_id"] for sent in world.app.values("vision.budget")] == ["topic-0-0"]


async def test_a_record_of_a_recreated_topic_is_another_one() -> None:
    setup = Setup()
    await setup.mark(event(0), later_ms=-1)
    await setup.marks.refresh()
    assert setup.marks.reason(event(0)) is None
    await setup.mark(event(0))
    await setup.marks.refresh()
    assert setup.marks.reason(event(0)) == "set aside by anna: too big"
    assert setup.marks.reason(event(1)) is None


async def test_one_record_of_a_batch_is_set_aside_and_the_others_are_written() -> None:
    setup, sink = Setup(), FakeSink()
    sink.gate.clear()
    body = Batches(setup.app, sink, read, DeadLetters(Outbox(setup.app)))
    setup.stream.put(record(0), record(1))
    task = asyncio.create_task(body.run(setup.stream))
    try:
        await until(lambda: sink.tries == [["r0"]] or sink.tries == [["r0", "r1"]])
        await setup.mark(record(0))
        await setup.marks.refresh()
        sink.gate.set()
        await until(lambda: setup.stream.offsets == [0, 1])
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [letter["id"] for letter in setup.letters] == ["vision.sink.postgres-0-0"]
    assert sink.written == ["r1"]


async def test_an_absent_redis_or_invalid_marks_delay_nothing() -> None:
    setup = Setup()
    setup.redis.away = RedisAway("away")
    await setup.marks.open()
    setup.redis.away = None
    setup.redis.marks = {b"topic-0-0": b"\xff", b"topic-0-1": b"[]", b"topic-0-2": orjson.dumps({"reason": "x"})}
    await setup.marks.refresh()
    assert [setup.marks.reason(event(offset)) for offset in range(3)] == [None, None, None]


async def test_an_invalid_place_is_skipped() -> None:
    setup = Setup()
    setup.redis.marks[b"whatever"] = orjson.dumps({"reason": "x", "record_ms": 1, "marked_at": time.time()})
    await setup.mark(event(0))
    await setup.marks.refresh()
    assert setup.marks.reason(event(0)) == "set aside by anna: too big"


async def test_marks_older_than_any_record_are_dropped() -> None:
    setup = Setup()
    old = {"reason": "x", "record_ms": 1, "marked_at": time.time() - KEEP_SECONDS - 1}
    setup.redis.marks[b"topic-0-5"] = orjson.dumps(old)
    await setup.mark(event(0))
    await setup.marks.refresh()
    assert list(setup.redis.marks) == [b"topic-0-0"]


@given(st.sampled_from(["vision.media", "posts.vision.uploaded", "a-b"]), st.integers(0, 99), st.integers(0, 2**63))
def test_a_place_is_read_as_it_is_written(topic: str, partition: int, offset: int) -> None:
    place = RecordPlace(topic, partition, str(offset))
    assert parse_place(str(place)) == place


def test_an_entry_of_a_stream_is_a_place_too() -> None:
    assert parse_place("stream:posts:vision-1727-0") == RecordPlace("stream:posts:vision", None, "1727-0")
    for text in ("", "vision.media", "vision.media-1", "vision.media-x-1", "vision.media-1-", "vision.media-1-²"):
        with pytest.raises(ValueError, match="no place"):
            parse_place(text)


@pytest.mark.parametrize("value", [b"", b"yes", b"[]", b'{"marked_at": "soon"}', b'{"record_ms": {}}', b"\xff"])
async def test_an_invalid_mark_sets_nothing_aside_and_hides_no_valid_one(value: bytes) -> None:
    setup = Setup()
    entry, sound = RecordPlace("stream:in", None, "1-0"), RecordPlace("stream:in", None, "2-0")
    await mark(setup.redis, sound, "poison", "anna", None)
    setup.redis.marks[str(entry).encode()] = value
    await setup.marks.refresh()
    assert setup.marks.reason_at(entry) is None
    assert setup.marks.reason_at(sound) == "set aside by anna: poison"
    assert str(entry).encode() in setup.redis.marks, "it is not ours to delete"
