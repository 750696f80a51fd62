"""The worker's lag for the gauge and the watch: records deleted by retention do not count."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiokafka.errors import KafkaTimeoutError
from faust.types import TP

from tests.fakes import FakeApp
from vision_app.streams.lag import STAGES, measure_lag
from vision_app.telemetry import metrics
from vision_app.telemetry.metrics import REGISTRY
from vision_app.telemetry.reachability import Reachability
from vision_app.telemetry.throughput import Throughput
from vision_app.telemetry.watch import RecordPlace, Watch


class Consumer:
    def __init__(self, committed: dict[TP, int], first: dict[TP, int], ends: dict[TP, int]) -> None:
        self._committed_offset: dict[TP, int | None] = defaultdict(lambda: None, committed)
        self._first, self._ends = first, ends

    def assignment(self) -> set[TP]:
        return {*self._ends, TP("not-ours", 0)}

    async def highwaters(self, *places: TP) -> dict[TP, int]:
        return {place: self._ends[place] for place in places}

    async def earliest_offsets(self, *places: TP) -> dict[TP, int]:
        return {place: self._first[place] for place in places}


class Reports(Watch):
    def __init__(self) -> None:
        super().__init__()
        self.reported: list[Any] = []

    def report_lag(self, behind: Mapping[RecordPlace, tuple[str, int]]) -> None:
        self.reported.append(behind)


async def test_what_is_left_of_each_partition() -> None:
    app = FakeApp()
    app.watch = watch = Reports()
    turns: list[Callable[[], Awaitable[None]]] = []
    app.timer = lambda seconds, name: turns.append
    behind, done, never, gone = (TP("vision.media", n) for n in range(4))
    app.consumer = Consumer({behind: 5, done: 7}, {never: 0, gone: 9}, {behind: 8, done: 7, never: 2, gone: 9})
    reads = Reachability()
    measure_lag(app, reads, Throughput())
    await turns[0]()
    assert watch.reported == [
        {RecordPlace("vision.media", 0): ("media", 5), RecordPlace("vision.media", 2): ("media", 0)}
    ]
    assert REGISTRY.get_sample_value("vision_consumer_lag", {"topic": "vision.media"}) == 3 + 2


async def test_brokers_that_do_not_answer_are_reported() -> None:
    app = FakeApp()
    turns: list[Callable[[], Awaitable[None]]] = []
    app.timer = lambda seconds, name: turns.append
    place, reads = TP("vision.media", 0), Reachability()
    app.consumer = Consumer({place: 5}, {}, {place: 8})
    answers = app.consumer.highwaters

    async def away(*_: TP) -> dict[TP, int]:
        raise KafkaTimeoutError("nobody")

    measure_lag(app, reads, Throughput())
    app.consumer.highwaters = away
    await turns[0]()
    assert "nobody" in (reads.trouble or "")
    app.consumer.highwaters = answers
    await turns[0]()
    assert reads.trouble is None


def test_every_topic_that_is_read_has_its_stage_and_every_stage_its_metric() -> None:
    assert STAGES.keys() == set(metrics.WORK_TOPICS)
    for stage in STAGES.values():
        assert REGISTRY.get_sample_value("vision_stalled_seconds", {"stage": stage}) is not None
