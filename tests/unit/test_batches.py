"""A sink's batches: a record is acknowledged after it is written and announced; a bad record never stops the others."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiokafka.errors import KafkaConnectionError

from tests.fakes import QUICK, FakeApp, FakeStream, event, settled, until
from vision_app.stores.base import Rejected, Sink, SinkUnavailable
from vision_app.streams.batches import Batches
from vision_app.streams.dead_letters import DeadLetters
from vision_app.streams.outbox import Outbox, Oversized
from vision_app.streams.times import WorkerTimes
from vision_app.telemetry import metrics


class FakeSink(Sink[str]):
    """Takes texts. The next writes raise `faults`, a write of `poison` always fails, and `gate` holds a write back."""

    name = "postgres"

    def __init__(self) -> None:
        self.tries: list[list[str]] = []
        self.written: list[str] = []
        self.faults: list[Exception] = []
        self.open_faults: list[Exception] = []
        self.poison: Callable[[Sequence[str]], None] = lambda batch: None
        self.gate = asyncio.Event()
        self.gate.set()
        self.opened = self.closed = 0

    async def open(self) -> None:
        self.opened += 1
        if self.open_faults:
            raise self.open_faults.pop(0)

    async def write(self, batch: Sequence[str]) -> Sequence[str]:
        self.tries.append(list(batch))
        await self.gate.wait()
        if self.faults:
            raise self.faults.pop(0)
        self.poison(batch)
        self.written += batch
        return [text for text in batch if text != "old"]

    async def close(self) -> None:
        self.closed += 1


def read(value: bytes | None) -> str:
    return str(orjson.loads(value or b"")["text"])


def record(offset: int, text: str | None = None, **fields: Any) -> Any:
    return event(offset, orjson.dumps({"text": text or f"r{offset}"}), topic="vision.sink.postgres", **fields)


class Setup:
    def __init__(self, times: WorkerTimes = QUICK) -> None:
        self.app, self.sink, self.stream = FakeApp(times), FakeSink(), FakeStream()
        self.announced: list[list[str]] = []
        self.announcing: list[Exception] = []
        self.bad_announcement: str | None = None
        letters = DeadLetters(Outbox(self.app))
        self.flow = Batches(self.app, self.sink, read, letters, size=4, written=self.announce)

    async def announce(self, records: Sequence[str], keep_trying: Callable[[], bool]) -> None:
        assert {f"r{offset}" for offset in self.stream.offsets}.isdisjoint(records), "acknowledged before announced"
        if self.announcing:
            raise self.announcing.pop(0)
        if self.bad_announcement in records:
            raise Oversized("the announcement")
        self.announced.append(list(records))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        body = asyncio.create_task(self.flow.run(self.stream))
        try:
            yield
            assert not body.done(), body.exception()
        finally:
            self.app.should_stop = True
            body.cancel()
            await asyncio.gather(body, return_exceptions=True)

    @property
    def letters(self) -> list[tuple[str, str]]:
        return [(letter["offset"], letter["error"]) for letter in self.app.values("vision.dlq")]


@pytest.fixture
def setup() -> Setup:
    return Setup()


def sample(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(name, labels or {"sink": "postgres"}) or 0.0


async def test_what_arrives_during_a_write_is_the_next_batch_and_none_is_larger_than_the_size(setup: Setup) -> None:
    setup.sink.gate.clear()
    setup.stream.put(record(0))
    async with setup.running():
        await until(lambda: setup.sink.tries)
        setup.stream.put(*(record(offset) for offset in range(1, 7)))
        await settled()
        assert setup.stream.acked == [], "acknowledged before it was written"
        setup.sink.gate.set()
        await until(lambda: setup.stream.offsets == list(range(7)))
    assert setup.sink.tries == [["r0"], ["r1", "r2", "r3", "r4"], ["r5", "r6"]]
    assert setup.announced == setup.sink.tries
    assert (setup.sink.opened, setup.sink.closed) == (1, 1)
    assert setup.stream.is_noack


async def test_a_write_without_an_answer_is_reported_while_it_lasts() -> None:
    setup = Setup(dataclasses.replace(QUICK, silent=0.0))
    setup.sink.gate.clear()
    setup.stream.put(record(0))
    async with setup.running():
        await until(lambda: (setup.flow.trouble or "").startswith("no answer for"))
        setup.sink.gate.set()
        await until(lambda: setup.stream.offsets == [0])
        assert setup.flow.trouble is None


async def test_while_the_store_is_away_the_same_records_are_tried_again_in_the_same_order(setup: Setup) -> None:
    setup.sink.faults = [SinkUnavailable("away")] * 3
    before = sample("vision_sink_unavailable_total")
    setup.stream.put(*(record(offset) for offset in range(3)))
    async with setup.running():
        await until(lambda: setup.stream.offsets == [0, 1, 2])
    assert setup.sink.tries == [["r0", "r1", "r2"]] * 4
    assert sample("vision_sink_unavailable_total") - before == 3
    assert sample("vision_sink_waiting") == 0
    assert setup.flow.waiting_since is None
    assert setup.letters == []


async def test_a_waiting_sink_can_be_seen_and_nothing_is_acknowledged(setup: Setup) -> None:
    setup.sink.poison = lambda batch: (_ for _ in ()).throw(SinkUnavailable("away"))
    setup.stream.put(record(0))
    async with setup.running():
        await until(lambda: len(setup.sink.tries) > 2)
        assert setup.flow.waiting_since is not None
        assert sample("vision_sink_waiting") == 1
        assert setup.stream.acked == []
        setup.sink.poison = lambda batch: None
        await until(lambda: setup.stream.offsets == [0])


async def test_a_rejected_record_is_buried_and_the_rest_is_written(setup: Setup) -> None:
    def poison(batch: Sequence[str]) -> None:
        if "bad" in batch:
            raise Rejected(batch.index("bad"), "a NUL character")

    setup.sink.poison = poison
    setup.stream.put(record(0), record(1, "bad"), record(2), record(3, "bad"))
    async with setup.running():
        await until(lambda: setup.stream.offsets == [0, 1, 2, 3])
    assert setup.sink.written == ["r0", "r2"]
    assert setup.letters == [("1", "Rejected"), ("3", "Rejected")]
    assert setup.announced == [["r0", "r2"]]


async def test_an_unexpected_error_fails_only_its_own_record(setup: Setup) -> None:
    def poison(batch: Sequence[str]) -> None:
        if "bad" in batch:
            raise ZeroDivisionError

    setup.sink.poison = poison
    before = sample("vision_unexpected_errors_total", where="sinks")
    setup.stream.put(record(0), record(1, "bad"), record(2))
    async with setup.running():
        await until(lambda: setup.stream.offsets == [0, 1, 2])
    assert setup.sink.written == ["r0", "r2"]
    assert setup.letters == [("1", "ZeroDivisionError")]
    assert sample("vision_unexpected_errors_total", where="sinks") - before == 2  # the batch, then the bad record alone


async def test_an_unreadable_value_is_buried(setup: Setup) -> None:
    setup.stream.put(event(0, b"\xff", topic="vision.sink.postgres"), record(1), event(2, None))
    async with setup.running():
        await until(lambda: setup.stream.offsets == [0, 1, 2])
    assert [offset for offset, _ in setup.letters] == ["0", "2"]
    assert setup.app.values("vision.dlq")[0]["value_base64"] == "/w=="


async def test_only_records_in_force_are_announced(setup: Setup) -> None:
    setup.stream.put(record(0, "old"), record(1, "new"))
    async with setup.running():
        await until(lambda: setup.stream.offsets == [0, 1])
    assert setup.announced == [["new"]]


async def test_an_announcement_that_can_never_be_made_does_not_end_the_sink(setup: Setup) -> None:
    setup.bad_announcement = "huge"
    setup.stream.put(record(0), record(1, "huge"), record(2))
    async with setup.running():
        await until(lambda: setup.stream.offsets == [0, 1, 2])
        setup.stream.put(record(3))
        await until(lambda: setup.stream.offsets == [0, 1, 2, 3])
    assert setup.letters == [("1", "Oversized")]
    assert setup.announced == [["r0"], ["r2"], ["r3"]]


async def test_a_sink_that_cannot_be_opened_costs_no_record(setup: Setup) -> None:
    setup.sink.open_faults = [SinkUnavailable("away"), RuntimeError("a migration is broken")]
    setup.stream.put(record(0))
    async with setup.running():
        await until(lambda: setup.stream.offsets == [0])
    assert setup.sink.opened == 3
    assert setup.letters == []


async def test_a_batch_whose_dead_letters_fail_is_tried_again_in_order(setup: Setup) -> None:
    """The sink breaks its contract (an index out of range). The batch must not be lost."""
    setup.sink.faults = [Rejected(7, "no such place")]
    setup.stream.put(record(0), record(1))
    async with setup.running():
        await until(lambda: setup.stream.offsets == [0, 1])
    assert setup.sink.tries == [["r0", "r1"]] * 2


async def test_a_batch_that_always_fails_is_tried_record_by_record_and_the_faulty_one_dead_lettered(
    setup: Setup,
) -> None:
    """The sink breaks its contract whenever the record is in the batch. The topic must not stop."""

    def poison(batch: Sequence[str]) -> None:
        if "bad" in batch:
            raise Rejected(7, "no such place")

    setup.sink.poison = poison
    setup.stream.put(record(0), record(1, "bad"), record(2))
    async with setup.running():
        await until(lambda: setup.stream.offsets == [0, 1, 2])
    assert setup.letters == [("1", "IndexError")]
    assert setup.sink.written[-2:] == ["r0", "r2"]
    assert setup.announced[-2:] == [["r0"], ["r2"]]


@pytest.mark.parametrize("lost", ["generation", "stop"])
async def test_a_batch_under_way_is_left_when_the_partition_moves_or_the_worker_stops(setup: Setup, lost: str) -> None:
    setup.sink.gate.clear()
    setup.stream.put(record(0))
    async with setup.running():
        await until(lambda: setup.sink.tries)
        if lost == "generation":
            setup.app.consumer_generation_id = 2
            setup.sink.gate.set()
            setup.stream.put(record(0, generation=2))
            await until(lambda: setup.stream.acked)
        else:
            setup.app.should_stop = True
            await asyncio.sleep(0.02)
            setup.sink.gate.set()
            await settled()
    generations = [e.message.generation_id for e in setup.stream.acked]
    assert generations == ([2] if lost == "generation" else [])


async def test_while_kafka_does_not_take_the_letter_the_batch_waits(setup: Setup) -> None:
    setup.sink.poison = lambda batch: (_ for _ in ()).throw(Rejected(0, "never")) if batch == ["bad"] else None
    setup.app.refuse = lambda topic, value: KafkaConnectionError("away")
    setup.stream.put(record(0, "bad"))
    async with setup.running():
        await until(lambda: setup.sink.tries)
        await settled()
        assert setup.stream.acked == []
        setup.app.refuse = lambda topic, value: None
        await until(lambda: setup.stream.offsets == [0])
    assert setup.letters == [("0", "Rejected")]


async def test_a_batch_that_arrives_before_the_rebalance_is_called_ended_is_not_passed_over(setup: Setup) -> None:
    setup.app.rebalancing = True
    setup.stream.put(record(0))
    async with setup.running():
        await settled()
        assert setup.sink.tries == []
        setup.app.rebalancing = False
        await until(lambda: setup.stream.offsets == [0])
