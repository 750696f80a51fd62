"""With any handlers and any moves of partitions: acks in order, none for a lost generation, and nothing hangs."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import pytest
import structlog
from aiokafka.errors import MessageSizeTooLargeError
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.fakes import FakeApp, FakeEvent, FakeStream, event, settled, until
from vision_app.messages import DeadLetter, Release
from vision_app.streams.dead_letters import DeadLetters
from vision_app.streams.faust_seams import Event
from vision_app.streams.in_flight import Handler, InFlight
from vision_app.streams.outbox import Outbox
from vision_app.streams.ownership import LeftUnacked, is_ours
from vision_app.telemetry import metrics


def companions(event: Any, letter: DeadLetter) -> list[Release]:
    return [Release(tenant_id="t", grant_id=letter.id)]


def flow_of(app: FakeApp, handler: Handler, *, limit: int, window: int | None = None) -> InFlight:
    letters = DeadLetters(Outbox(app))
    return InFlight(app, "analysis", handler, letters, limit=limit, window=window, companions=companions)


@asynccontextmanager
async def running(flow: InFlight, stream: FakeStream) -> AsyncIterator[None]:
    """Runs the agent's body. At the end it must still be running; then it is stopped as Faust does it."""
    body = asyncio.create_task(flow.run(stream))
    try:
        yield
        assert not body.done(), body.exception()
    finally:
        cast(FakeApp, flow.app).should_stop = True
        body.cancel()
        await asyncio.gather(body, return_exceptions=True)


# --- random events ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Conduct:
    """How the handler of one event behaves: after `ticks` turns of the loop it ends, fails or waits."""

    kind: str
    ticks: int


class World:
    """A broker with one log per partition that delivers from the committed offset, and checks every ack."""

    def __init__(self, logs: list[list[Conduct]], limit: int, window: int, last_generation: int) -> None:
        self.logs, self.limit, self.window, self.last = logs, limit, window, last_generation
        self.app, self.stream = FakeApp(), FakeStream()
        self.stream.ack = self.ack  # type: ignore[method-assign]  # of this one stream
        self.committed = [0] * len(logs)
        self.finished: set[tuple[int, int]] = set()
        self.failed: Counter[str] = Counter()
        self.broken: list[str] = []
        self.running = 0
        self.begun: dict[int, set[tuple[int, int]]] = defaultdict(set)
        self.acked_in: Counter[int] = Counter()

    def deliver(self) -> None:
        while not self.stream.queue.empty():
            self.stream.queue.get_nowait()
        waiting = [
            (offset, partition)
            for partition, log in enumerate(self.logs)
            for offset in range(self.committed[partition], len(log))
        ]
        generation = self.app.consumer_generation_id
        self.stream.put(*(event(offset, partition=p, generation=generation) for offset, p in sorted(waiting)))

    async def rebalance(self) -> None:
        """As Faust does it: new messages are delivered a moment before it reports the end of the rebalance."""
        self.app.rebalancing = True
        await settled(3)
        self.app.consumer_generation_id += 1
        await settled(8)  # the tables recover
        self.deliver()
        await settled(3)
        self.app.rebalancing = False

    async def handle(self, event: FakeEvent) -> None:
        at, generation = event.message, event.message.generation_id
        conduct = self.logs[at.partition][at.offset]
        self.running += 1
        self.begun[generation].add((at.partition, at.offset))
        self.expect(self.running <= self.limit, "too many at once")
        self.expect(len(self.begun[generation]) - self.acked_in[generation] <= self.window, "window too large")
        try:
            for _ in range(conduct.ticks):
                await asyncio.sleep(0)
            if conduct.kind == "leave" and generation < self.last:
                while is_ours(self.app, event):
                    await asyncio.sleep(0)
                raise LeftUnacked
            self.finished.add((at.partition, at.offset))
            if conduct.kind == "fail":
                self.failed[f"topic-{at.partition}-{at.offset}"] += 1
                raise RuntimeError("the picture bites")
        finally:
            self.running -= 1

    async def ack(self, event: Event) -> bool:
        at = event.message
        self.expect(at.generation_id == self.app.consumer_generation_id, "ack of a lost generation")
        self.expect(at.offset == self.committed[at.partition], "ack out of order")
        self.expect((at.partition, at.offset) in self.finished, "ack of unfinished work")
        self.committed[at.partition] += 1
        self.acked_in[at.generation_id] += 1
        return True

    def expect(self, holds: bool, otherwise: str) -> None:
        """An assertion here would be caught by the flow, which catches all exceptions."""
        if not holds:
            self.broken.append(otherwise)

    @property
    def done(self) -> bool:
        return self.committed == [len(log) for log in self.logs]

    def check_letters(self) -> None:
        letters: Counter[str] = Counter()
        released: Counter[str] = Counter()
        for sent in self.app.sent:
            if sent.topic == "vision.budget":
                released[sent.body["grant_id"]] += 1
            else:
                letters[sent.body["id"]] += 1
                assert released[sent.body["id"]] >= letters[sent.body["id"]], "a letter before its companion"
        assert letters == released == self.failed


conducts = st.builds(Conduct, st.sampled_from(["end", "end", "end", "fail", "leave"]), st.integers(0, 12))


@settings(max_examples=examples(150), deadline=None)
@given(
    logs=st.lists(st.lists(conducts, max_size=14), min_size=1, max_size=3),
    limit=st.integers(1, 6),
    extra=st.integers(0, 6),
    pauses=st.lists(st.integers(0, 60), max_size=3),
)
def test_any_sequence_of_events(logs: list[list[Conduct]], limit: int, extra: int, pauses: list[int]) -> None:
    async def course() -> None:
        world = World(logs, limit, limit + extra, last_generation=1 + len(pauses))
        flow = flow_of(world.app, world.handle, limit=limit, window=limit + extra)
        world.deliver()
        async with running(flow, world.stream):
            for pause in pauses:
                await settled(pause)
                await world.rebalance()
            await until(lambda: world.done, 3)
            await until(lambda: not flow.running)
        assert world.broken == []
        world.check_letters()

    with structlog.testing.capture_logs():  # rendering a thousand tracebacks takes half a minute
        asyncio.run(course())


# --- single properties ------------------------------------------------------------------------------------------------


async def test_a_slow_first_event_holds_back_every_ack_of_its_partition_only() -> None:
    app, stream, go_on = FakeApp(), FakeStream(), asyncio.Event()

    async def handler(event: FakeEvent) -> None:
        if (event.message.partition, event.message.offset) == (0, 0):
            await go_on.wait()

    stream.put(*(event(offset, partition=p) for offset in range(4) for p in (0, 1)))
    async with running(flow_of(app, handler, limit=3), stream):
        await until(lambda: len(stream.acked) == 4)
        assert {e.message.partition for e in stream.acked} == {1}
        go_on.set()
        await until(lambda: len(stream.acked) == 8)
    assert stream.is_noack


async def test_the_window_bounds_what_is_finished_behind_a_slow_head() -> None:
    app, stream, go_on, begun = FakeApp(), FakeStream(), asyncio.Event(), []

    async def handler(event: FakeEvent) -> None:
        begun.append(event.message.offset)
        if event.message.offset == 0:
            await go_on.wait()

    stream.put(*(event(offset) for offset in range(30)))
    async with running(flow_of(app, handler, limit=2, window=6), stream):
        await until(lambda: len(begun) == 6)
        await asyncio.sleep(0.02)  # many polls: nothing more may begin
        assert begun == list(range(6))
        assert stream.acked == []
        go_on.set()
        await until(lambda: stream.offsets == list(range(30)))


async def test_an_event_that_arrives_before_the_rebalance_is_called_ended_is_not_passed_over() -> None:
    app, stream = FakeApp(), FakeStream()

    async def handler(event: FakeEvent) -> None:
        return

    app.rebalancing = True
    stream.put(event(0), event(1))
    async with running(flow_of(app, handler, limit=2), stream):
        await settled()
        assert stream.acked == []
        app.rebalancing = False
        await until(lambda: stream.offsets == [0, 1])


async def test_a_lost_generation_gives_its_room_back_and_its_late_handlers_are_not_acknowledged() -> None:
    app, stream, go_on, begun = FakeApp(), FakeStream(), asyncio.Event(), []

    async def handler(event: FakeEvent) -> None:
        begun.append((event.message.generation_id, event.message.offset))
        if event.message.generation_id == 1 and event.message.offset == 0:
            await go_on.wait()

    stream.put(*(event(offset) for offset in range(4)))
    async with running(flow_of(app, handler, limit=4, window=4), stream):
        await until(lambda: len(begun) == 4)
        app.consumer_generation_id = 2
        stream.put(*(event(offset, generation=2) for offset in range(4)))
        await until(lambda: stream.offsets == [0, 1, 2, 3])
        go_on.set()
        await settled()
    assert [e.message.generation_id for e in stream.acked] == [2, 2, 2, 2]


async def test_a_stopping_worker_takes_nothing_new_and_draining_waits_for_what_runs() -> None:
    app, stream, go_on, begun = FakeApp(), FakeStream(), asyncio.Event(), []

    async def handler(event: FakeEvent) -> None:
        begun.append(event.message.offset)
        await go_on.wait()

    flow = flow_of(app, handler, limit=4)
    stream.put(event(0))
    async with running(flow, stream):
        await until(lambda: begun == [0])
        assert metrics.REGISTRY.get_sample_value("vision_inflight", {"agent": "analysis"}) == 1
        app.should_stop = True
        stream.put(event(1))
        await flow.drain(0.01)
        assert flow.running == 1
        go_on.set()
        await flow.drain(5)
        await until(lambda: stream.offsets == [0])
        await settled()
    assert begun == [0]
    assert metrics.REGISTRY.get_sample_value("vision_inflight", {"agent": "analysis"}) == 0


async def test_what_still_runs_when_the_body_ends_at_a_stop_is_cut_off_and_awaited() -> None:
    app, stream, ended = FakeApp(), FakeStream(), []

    async def handler(event: FakeEvent) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(event.message.offset)

    flow = flow_of(app, handler, limit=4)
    stream.put(event(0), event(1))
    async with running(flow, stream):
        await until(lambda: flow.running == 2)
    assert sorted(ended) == [0, 1]
    assert stream.acked == []


@pytest.mark.parametrize("turns", range(4))
async def test_a_body_that_waits_for_room_ends_when_cancelled_though_room_comes_at_the_same_moment(turns: int) -> None:
    """Python 3.11's `wait_for` swallows that cancellation, and Faust would wait for the agent's end for ever."""
    app, stream, go_on = FakeApp(), FakeStream(), asyncio.Event()

    async def handler(event: FakeEvent) -> None:
        await go_on.wait()

    flow = flow_of(app, handler, limit=1)
    stream.put(event(0), event(1))
    body = asyncio.create_task(flow.run(stream))
    await until(lambda: flow.running == 1)
    await settled()
    go_on.set()
    await settled(turns)
    body.cancel()
    await asyncio.wait({body}, timeout=5)
    assert body.cancelled()
    await until(lambda: not flow.running)


async def test_a_letter_too_large_for_its_topic_is_cut_and_the_partition_goes_on() -> None:
    app, stream = FakeApp(), FakeStream()
    app.refuse = lambda topic, value: MessageSizeTooLargeError("big") if len(value or b"") > 1_000_000 else None

    async def handler(event: FakeEvent) -> None:
        if event.message.offset == 0:
            raise ValueError("unreadable")

    stream.put(event(0, b"x" * 1_500_000), event(1))
    async with running(flow_of(app, handler, limit=2), stream):
        await until(lambda: stream.offsets == [0, 1])
    (letter,) = app.values("vision.dlq")
    assert letter["headers"]["vision-cut"] == "1500000"
    assert "partition 0, offset 0" in letter["reason"]
