"""The shell of an actor: commands of a key in order, many keys at once; none overtakes one left un-acknowledged."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import FakeApp, FakeEvent, FakeStream, event, settled, until
from vision_app.domain.moment import Applied, Moment
from vision_app.messages import Message
from vision_app.streams.actor import Actor, Change
from vision_app.streams.dead_letters import DeadLetters
from vision_app.streams.outbox import Outbox
from vision_app.streams.ownership import LeftUnacked
from vision_app.telemetry import metrics


class Add(Message):
    type: Literal["add"] = "add"


class Row(Message):
    applied: Applied


class Table(dict[bytes, Any]):
    """Confirms when told to. `delays`: turns of the event loop that each confirmation takes."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.open.set()
        self.delays: list[int] = []
        self.left = False

    def row(self, key: bytes) -> Any:
        return Row.model_validate_json(self[key]) if key in self else None

    async def confirm(self) -> None:
        for _ in range(self.delays.pop() if self.delays else 0):
            await asyncio.sleep(0)
        await self.open.wait()
        if self.left:
            raise LeftUnacked


class World:
    def __init__(self) -> None:
        self.app, self.stream, self.table = FakeApp(), FakeStream(), Table()
        self.decided: list[tuple[bytes, int]] = []
        outbox = Outbox(self.app)
        self.actor = Actor(self.app, "posts", Add, self.table, outbox, DeadLetters(outbox), self.decide)  # type: ignore[arg-type]  # a table without Faust

    def decide(self, row: Any, command: Any, at: Moment) -> Change:
        key = self.keys[at.offset]
        self.decided.append((key, at.offset))
        return Change(row=Row(applied=Applied(offset=at.offset, time_ms=at.time_ms)))

    keys: dict[int, bytes]

    def put(self, *keys: bytes) -> None:
        self.keys = dict(enumerate(keys))
        self.stream.put(*(_command(offset, key) for offset, key in self.keys.items()))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        body = asyncio.create_task(self.actor.run(self.stream))
        try:
            yield
        finally:
            self.app.should_stop = True
            body.cancel()
            await asyncio.gather(body, return_exceptions=True)


def under_way() -> float | None:
    return metrics.REGISTRY.get_sample_value("vision_inflight", {"agent": "posts"})


def _command(offset: int, key: bytes) -> FakeEvent:
    return event(offset, Add().encode(), key=key)


async def test_commands_of_one_key_wait_for_each_other_and_for_no_other_key() -> None:
    world = World()
    world.table.open.clear()
    async with world.running():
        world.put(b"a", b"a", b"b")
        await until(lambda: len(world.decided) == 2)
        await settled()
        assert world.decided == [(b"a", 0), (b"b", 2)]
        assert world.stream.offsets == []
        world.table.open.set()
        await until(lambda: world.stream.offsets == [0, 1, 2])
    assert world.decided[2:] == [(b"a", 1)]


async def test_no_command_of_a_key_overtakes_one_left_unacknowledged() -> None:
    """If a later command were applied first, the earlier one would look like a repeat when it is redelivered."""
    world = World()
    world.table.open.clear()
    async with world.running():
        world.put(b"a", b"a", b"a")
        await until(lambda: len(world.decided) == 1)
        await until(lambda: under_way() == 3)  # the others wait for the key
        await settled()
        world.app.rebalancing = world.table.left = True
        world.table.open.set()
        await until(lambda: under_way() == 0)
        assert world.decided == [(b"a", 0)]
    assert world.stream.offsets == []


@settings(max_examples=60, deadline=None)
@given(
    keys=st.lists(st.sampled_from([b"a", b"b", b"c", b"d"]), min_size=1, max_size=40),
    delays=st.lists(st.integers(0, 30), max_size=40),
)
def test_however_long_each_takes_a_keys_commands_are_applied_and_acknowledged_in_order(
    keys: list[bytes], delays: list[int]
) -> None:
    async def course() -> World:
        world = World()
        world.table.delays = delays
        async with world.running():
            world.put(*keys)
            await until(lambda: len(world.stream.acked) == len(keys))
        return world

    world = asyncio.run(course())
    assert world.stream.offsets == list(range(len(keys)))
    applied = defaultdict(list)
    for key, offset in world.decided:
        applied[key].append(offset)
    assert all(offsets == sorted(offsets) for offsets in applied.values())
    assert sum(map(len, applied.values())) == len(keys)
