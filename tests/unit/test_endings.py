"""With faults at any step, endings included: every event ends, or the process ends and the event is redelivered.

A plan of random faults is used step by step: in handlers, writes, sends of letters and companions, confirmations and
acknowledgements. When the plan is used up, everything works. After each end of the process the broker redelivers from
the acknowledged offset. If an event stayed open without a handler, it would never be acknowledged, and the test would
not end.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import orjson
import pytest
import structlog
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.fakes import FakeApp, FakeEvent, FakeStream, event, settled
from vision_app.domain.moment import Applied, Moment
from vision_app.messages import DeadLetter, Message, Release
from vision_app.stores.base import Rejected, Sink, SinkUnavailable
from vision_app.streams import last_resort
from vision_app.streams.actor import Actor, Change
from vision_app.streams.batches import Batches, BatchState
from vision_app.streams.dead_letters import DeadLetters
from vision_app.streams.faust_seams import Event
from vision_app.streams.in_flight import InFlight, SlotState
from vision_app.streams.outbox import Outbox, Oversized
from vision_app.streams.ownership import LeftUnacked
from vision_app.streams.times import WorkerTimes

FAULTS: dict[str, Callable[[], BaseException | None]] = {
    "none": lambda: None,
    "bug": lambda: RuntimeError("a fault of this program"),
    "kafka": lambda: KafkaConnectionError("away"),
    "large": lambda: MessageSizeTooLargeError("large"),
    "oversized": lambda: Oversized("large"),
    "cancelled": asyncio.CancelledError,
    "left": LeftUnacked,
    "away": lambda: SinkUnavailable("away"),
    "rejected": lambda: Rejected(0, "never"),
    "elsewhere": lambda: Rejected(99, "no such place"),
}
SENDS = frozenset({"bug", "kafka", "large"})


TIMES = WorkerTimes(poll=0.001, kafka_retry=(0.0,), sink_retry=(0.0,))


class ProcessEnded(BaseException):
    """Raised instead of ending the process that runs the tests."""


class Add(Message):
    type: Literal["add"] = "add"
    offset: int


class Row(Message):
    applied: Applied


class World:
    """The broker's log of one partition, and the successive lives of the process."""

    def __init__(self, events: int, faults: list[str]) -> None:
        self.events, self.faults = events, faults
        self.committed = 0
        self.ended: set[int] = set()  # handled or written
        self.lives: list[Life] = []
        self.broken: list[str] = []

    def step(self, *possible: str) -> None:
        """Raise the fault planned for this step, if it can happen here."""
        if self.faults and (name := self.faults.pop()) in possible and (fault := FAULTS[name]()) is not None:
            raise fault

    def letters(self) -> set[int]:
        return {int(body["offset"]) for life in self.lives for body in life.app.values("vision.dlq")}


class Life:
    """The objects from one start of the process to its end."""

    def __init__(self, world: World, generation: int) -> None:
        self.world, self.dead, self.code = world, False, 0
        self.app, self.stream = FakeApp(TIMES), FakeStream()
        self.app.consumer_generation_id = generation
        self.app.refuse = self._refuse
        self.stream.ack = self._ack  # type: ignore[method-assign]  # of this one stream
        self.stream.put(*(self._event(offset) for offset in range(world.committed, world.events)))
        self.letters = DeadLetters(Outbox(self.app))

    def _event(self, offset: int) -> FakeEvent:
        return event(
            offset, Add(offset=offset).encode(), generation=self.app.consumer_generation_id, key=b"%d" % (offset % 3)
        )

    def end(self, code: int) -> None:
        """Replaces `os._exit` in the test: after it this life has no further effect."""
        self.code, self.dead = code, True
        raise ProcessEnded

    def _refuse(self, topic: str, value: bytes | None) -> Exception | None:
        if self.dead:
            return RuntimeError("the process has ended")
        try:
            self.world.step(*SENDS)
        except (RuntimeError, KafkaConnectionError, MessageSizeTooLargeError) as fault:
            return fault
        return None

    async def _ack(self, event: Event) -> bool:
        if self.dead:
            return False
        self.world.step("bug")
        offset = event.message.offset
        if offset != self.world.committed:  # an assertion here would end the process, and the test would pass
            self.world.broken.append(f"{offset} was acknowledged out of order")
        if offset not in self.world.ended | self.world.letters():
            self.world.broken.append(f"{offset} was acknowledged without an end")
        self.world.committed += 1
        return True

    def companions(self, letter: DeadLetter) -> list[Message]:
        self.world.step("bug")
        return [Release(tenant_id="t", grant_id=letter.id)]


# --- the three kinds of flow ------------------------------------------------------------------------------------------


def in_flight_of(life: Life) -> Any:
    async def handler(event: FakeEvent) -> None:
        await asyncio.sleep(0)
        life.world.step("bug", "oversized", "cancelled", "left")
        life.world.ended.add(event.message.offset)

    return InFlight(
        life.app, "analysis", handler, life.letters, limit=3, companions=lambda event, letter: life.companions(letter)
    )


class Table(dict[bytes, Any]):
    def __init__(self, life: Life) -> None:
        super().__init__()
        self._life = life

    async def confirm(self) -> None:
        await asyncio.sleep(0)
        self._life.world.step("bug", "cancelled")


def actor_of(life: Life) -> Any:
    def decide(stored: Any, command: Any, at: Moment) -> Change:
        life.world.step("bug")
        life.world.ended.add(at.offset)
        return Change(row=Row(applied=Applied(offset=at.offset, time_ms=at.time_ms)), send=life.companions(_LETTER))

    table: Any = Table(life)
    outbox_ = Outbox(life.app)
    return Actor(
        life.app,
        "posts",
        Add,
        table,
        outbox_,
        life.letters,
        decide,
        companions=lambda _, letter: life.companions(letter),
    )


_LETTER: Any = type("Named", (), {"id": "effect"})()


class FaultySink(Sink[int]):
    name = "postgres"

    def __init__(self, life: Life) -> None:
        self._life = life

    async def open(self) -> None:
        self._life.world.step("bug", "away")

    async def write(self, batch: Sequence[int]) -> Sequence[int]:
        await asyncio.sleep(0)
        self._life.world.step("bug", "away", "rejected", "elsewhere", "cancelled", "left")
        self._life.world.ended.update(batch)
        return batch

    async def close(self) -> None:
        return


def batches_of(life: Life) -> Any:
    def read(value: bytes | None) -> int:
        life.world.step("bug")
        return int(orjson.loads(value or b"")["offset"])

    async def announce(written: Sequence[int], keep_trying: Callable[[], bool]) -> None:
        life.world.step("bug", "oversized", "left")

    return Batches(life.app, FaultySink(life), read, life.letters, size=2, written=announce)


FLOWS: dict[str, Callable[[Life], Any]] = {"in flight": in_flight_of, "actor": actor_of, "batches": batches_of}


# --- the run ----------------------------------------------------------------------------------------------------------


async def live(world: World, build: Callable[[Life], Any], monkeypatch: pytest.MonkeyPatch) -> Life:
    """One life: until all is acknowledged or the process ends."""
    life = Life(world, generation=len(world.lives) + 1)
    world.lives.append(life)
    monkeypatch.setattr("vision_app.streams.last_resort.os._exit", life.end)  # patched: the end of the process
    body = asyncio.create_task(build(life).run(life.stream))
    try:
        async with asyncio.timeout(5):
            while world.committed < world.events and not life.dead:
                await asyncio.sleep(0.001)
        if not life.dead:
            await settled()
            assert not body.done(), body
    finally:
        life.app.should_stop = True
        body.cancel()
        await asyncio.gather(body, return_exceptions=True)
    return life


@pytest.mark.parametrize("kind", FLOWS)
def test_every_event_ends_whatever_fails(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    exits: list[int] = []

    @settings(max_examples=examples(120), deadline=None)
    @given(events=st.integers(1, 6), faults=st.lists(st.sampled_from(list(FAULTS)), max_size=40))
    @example(events=1, faults=["bug"] * 40)  # nothing works: this course ends the process, whatever is drawn besides
    def course(events: int, faults: list[str]) -> None:
        async def lives() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
            world = World(events, list(faults))
            while world.committed < events:
                life = await live(world, FLOWS[kind], monkeypatch)
                if life.dead:
                    exits.append(life.code)
            assert world.broken == []

        with structlog.testing.capture_logs():
            asyncio.run(lives())

    course()
    assert set(exits) == {last_resort.EXIT_UNENDED}, "some courses end the process, and always visibly"


# --- visible effects --------------------------------------------------------------------------------------------------


@pytest.fixture
def ended_with(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exit codes with which the process would have ended."""
    codes: list[int] = []

    def end(code: int) -> None:
        codes.append(code)
        raise ProcessEnded

    monkeypatch.setattr(os, "_exit", end)  # patched: the end of the process
    return codes


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_a_slot_shows_the_state_of_its_event() -> None:
    app, stream, go_on, letter = FakeApp(), FakeStream(), asyncio.Event(), asyncio.Event()
    app.refuse = lambda topic, value: None if letter.is_set() else KafkaConnectionError("away")

    async def handler(event: FakeEvent) -> None:
        match event.message.offset:
            case 0:
                await go_on.wait()
            case 1:
                raise ValueError("unreadable")

    flow = InFlight(app, "analysis", handler, DeadLetters(Outbox(app)), limit=4)
    body = asyncio.create_task(flow.run(stream))
    stream.put(event(0), event(1), event(2))
    try:
        await until(lambda: [slot.state for slot in flow.slots] == ["working", "ending", "done"])
        assert [slot.place["offset"] for slot in flow.slots] == [0, 1, 2]
        letter.set()
        await until(lambda: [slot.state for slot in flow.slots] == ["working", "done", "done"])
        app.rebalancing = True
        go_on.set()
        await until(lambda: list(flow.slots) == [])
    finally:
        app.should_stop = True
        body.cancel()
        await asyncio.gather(body, return_exceptions=True)
    assert {state.value for state in SlotState} == {"working", "ending", "done", "left"}


async def test_an_event_that_is_left_although_it_is_ours_ends_the_process(ended_with: list[int]) -> None:
    app, stream = FakeApp(), FakeStream()

    async def handler(event: FakeEvent) -> None:
        raise LeftUnacked

    flow = InFlight(app, "analysis", handler, DeadLetters(Outbox(app)), limit=4)
    body = asyncio.create_task(flow.run(stream))
    app.rebalancing = True
    stream.put(event(0))
    await settled()
    assert list(flow.slots) == [], "it waits until the rebalance is over"
    app.rebalancing = False
    await until(lambda: ended_with == [last_resort.EXIT_UNENDED])
    app.should_stop = True
    body.cancel()
    await asyncio.gather(body, return_exceptions=True)


async def test_an_event_left_for_a_rebalance_does_not_end_the_process(ended_with: list[int]) -> None:
    app, stream = FakeApp(), FakeStream()

    async def handler(event: FakeEvent) -> None:
        app.rebalancing = True
        raise LeftUnacked

    flow = InFlight(app, "analysis", handler, DeadLetters(Outbox(app)), limit=4)
    body = asyncio.create_task(flow.run(stream))
    stream.put(event(0))
    await until(lambda: [slot.state for slot in flow.slots] == [SlotState.LEFT])
    app.consumer_generation_id = 2
    app.rebalancing = False
    await until(lambda: list(flow.slots) == [])
    await asyncio.sleep(0.01)
    assert ended_with == []
    app.should_stop = True
    body.cancel()
    await asyncio.gather(body, return_exceptions=True)


async def test_a_sink_shows_its_state_and_its_batch(ended_with: list[int]) -> None:
    app, stream, gate = FakeApp(), FakeStream(), asyncio.Event()

    class Gated(FaultySink):
        async def open(self) -> None:
            return

        async def write(self, batch: Sequence[int]) -> Sequence[int]:
            await gate.wait()
            return batch

    flow = Batches(app, Gated(None), len, DeadLetters(Outbox(app)))  # type: ignore[arg-type]  # its life is not asked for
    body = asyncio.create_task(flow.run(stream))
    try:
        await settled()
        assert (flow.state, list(flow.batch)) == (BatchState.EMPTY, [])
        stream.put(event(5))
        await until(lambda: flow.state is BatchState.WRITING)
        assert [event.message.offset for event in flow.batch] == [5]
        gate.set()
        await until(lambda: stream.offsets == [5])
        await until(lambda: flow.state is BatchState.EMPTY)
    finally:
        app.should_stop = True
        body.cancel()
        await asyncio.gather(body, return_exceptions=True)


async def test_the_window_is_bounded_in_bytes() -> None:
    app, stream, go_on, begun = FakeApp(), FakeStream(), asyncio.Event(), []

    async def handler(event: FakeEvent) -> None:
        begun.append(event.message.offset)
        await go_on.wait()

    flow = InFlight(app, "analysis", handler, DeadLetters(Outbox(app)), limit=50, window_bytes=1000)
    body = asyncio.create_task(flow.run(stream))
    stream.put(*(event(offset, b"x" * 400) for offset in range(6)), event(6, b"x" * 5000))
    try:
        await until(lambda: begun == [0, 1, 2])
        await settled()
        assert begun == [0, 1, 2], "what they take together is past the bound"
        go_on.set()
        await until(lambda: stream.offsets == list(range(7)))
    finally:
        app.should_stop = True
        body.cancel()
        await asyncio.gather(body, return_exceptions=True)
