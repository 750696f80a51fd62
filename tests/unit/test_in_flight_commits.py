"""Ordered acknowledgements against Faust's own commit arithmetic: a committed offset never passes unfinished work.

Faust commits over a gap of one at the head, and over any gap where a partition has no committed offset yet (its issue
606). The tests use Faust's arithmetic, called as its consumer calls it, at any moment. Meanwhile events take any time,
fail or are left, partitions move, and the process is killed and starts again from the committed offset.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog
from faust.transport.consumer import Consumer
from hypothesis import given, settings
from hypothesis import strategies as st
from intervaltree import IntervalTree

from tests.examples import examples
from tests.fakes import FakeApp, FakeEvent, FakeStream, event, settled, until
from tests.unit.test_in_flight import Conduct, flow_of
from vision_app.streams.faust_seams import Event
from vision_app.streams.in_flight import InFlight
from vision_app.streams.ownership import LeftUnacked, is_ours

TOPIC = "topic"


@dataclass(eq=False)
class Acked:
    """The fields of a message that Faust's consumer reads."""

    tp: Any
    offset: int
    topic: str = TOPIC
    acked: bool = False


class Commits:
    """The part of Faust's consumer that decides which offset may be committed."""

    def __init__(self, committed: dict[Any, int]) -> None:
        topics = SimpleNamespace(acks_enabled_for=lambda topic: True)
        self._consumer: Any = SimpleNamespace(
            app=SimpleNamespace(topics=topics),
            _acked=defaultdict(list),
            _acked_index=defaultdict(set),
            _committed_offset=defaultdict(lambda: None, {tp: offset for tp, offset in committed.items() if offset}),
            _gap=defaultdict(IntervalTree),
            _unacked_messages=set(),
            _n_acked=0,
            _waiting_for_ack=None,
        )

    def ack(self, event: Event) -> None:
        message: Any = Acked(event.message.tp, event.message.offset)
        Consumer.ack(self._consumer, message)

    def commit(self) -> dict[Any, int]:
        """What Faust's commit sends to the broker now."""
        sent = {}
        for tp in list(self._consumer._acked):
            offset = Consumer._new_offset(self._consumer, tp)
            if offset is not None and Consumer._should_commit(self._consumer, tp, offset):
                sent[tp] = self._consumer._committed_offset[tp] = offset
        return sent


class Broker:
    """One log per partition, delivered from the committed offsets."""

    def __init__(self, logs: list[list[Conduct]]) -> None:
        self.logs = logs
        self.committed: dict[Any, int] = {}
        self.finished: dict[Any, set[int]] = defaultdict(set)
        self.passed_over: list[tuple[Any, int]] = []
        self.app, self.stream, self.commits = FakeApp(), FakeStream(), Commits({})
        self.last_left = False

    def assign(self) -> None:
        """Assign all partitions again, as after a rebalance or a start."""
        self.commits = Commits(self.committed)
        while not self.stream.queue.empty():
            self.stream.queue.get_nowait()
        waiting = [
            (offset, partition)
            for partition, log in enumerate(self.logs)
            for offset in range(self.committed.get((TOPIC, partition), 0), len(log))
        ]
        generation = self.app.consumer_generation_id
        self.stream.put(*(event(offset, partition=p, generation=generation) for offset, p in sorted(waiting)))

    def start(self) -> None:
        """Start a process after the earlier one was killed."""
        generation = self.app.consumer_generation_id
        self.app, self.stream = FakeApp(), FakeStream()
        self.app.consumer_generation_id = generation + 1
        self.stream.ack = self.ack  # type: ignore[method-assign]  # of this one stream
        self.assign()

    async def rebalance(self) -> None:
        self.app.rebalancing = True
        await settled(3)
        self.app.consumer_generation_id += 1
        self.assign()
        await settled(3)
        self.app.rebalancing = False

    async def ack(self, event: Event) -> bool:
        self.commits.ack(event)
        return True

    def commit(self) -> None:
        for tp, offset in self.commits.commit().items():
            self.passed_over += [(tp, n) for n in range(offset) if n not in self.finished[tp]]
            self.committed[tp] = offset

    async def handle(self, event: FakeEvent) -> None:
        at = event.message
        conduct = self.logs[at.partition][at.offset]
        for _ in range(conduct.ticks):
            await asyncio.sleep(0)
        if conduct.kind == "leave" and not self.last_left:
            while is_ours(self.app, event):
                await asyncio.sleep(0)
            raise LeftUnacked
        self.finished[at.tp].add(at.offset)
        if conduct.kind == "fail":
            raise RuntimeError("the picture bites")

    @property
    def done(self) -> bool:
        self.commit()
        return all(self.committed.get((TOPIC, p), 0) == len(log) for p, log in enumerate(self.logs))


async def kill(flow: InFlight, body: asyncio.Task[None]) -> None:
    """Like kill -9: no part of the process runs any more, and nothing is cleaned up."""
    cast(FakeApp, flow.app).consumer_generation_id = -1
    for task in {body, *flow._running}:
        task.cancel()
    await asyncio.gather(body, *flow._running, return_exceptions=True)


conducts = st.builds(Conduct, st.sampled_from(["end", "end", "end", "fail", "leave"]), st.integers(0, 15))
steps = st.lists(
    st.tuples(st.sampled_from(["commit", "commit", "rebalance", "kill"]), st.integers(0, 40)), min_size=1, max_size=8
)


@settings(max_examples=examples(150), deadline=None)
@given(
    logs=st.lists(st.lists(conducts, max_size=12), min_size=1, max_size=3),
    limit=st.integers(1, 6),
    extra=st.integers(0, 6),
    steps=steps,
)
def test_nothing_unfinished_is_ever_committed(
    logs: list[list[Conduct]], limit: int, extra: int, steps: list[tuple[str, int]]
) -> None:
    async def course() -> None:
        broker = Broker(logs)
        broker.start()
        flow = flow_of(broker.app, broker.handle, limit=limit, window=limit + extra)
        body = asyncio.create_task(flow.run(broker.stream))
        for step, pause in [*steps, ("kill", 0)]:
            await settled(pause)
            broker.commit()
            if step == "rebalance":
                await broker.rebalance()
            elif step == "kill":
                await kill(flow, body)
                broker.start()
                flow = flow_of(broker.app, broker.handle, limit=limit, window=limit + extra)
                body = asyncio.create_task(flow.run(broker.stream))
        broker.last_left = True
        await broker.rebalance()
        await until(lambda: broker.done, 5)
        await kill(flow, body)
        assert broker.passed_over == []
        assert broker.committed == {(TOPIC, p): len(log) for p, log in enumerate(logs) if log}

    with structlog.testing.capture_logs():
        asyncio.run(course())


@pytest.mark.parametrize(
    ("committed", "acked", "lost"),
    [({}, [1, 2, 3], [0]), ({(TOPIC, 0): 4}, [5], [4]), ({(TOPIC, 0): 4}, [6], [])],
    ids=["a new group", "a gap of one", "a gap of two"],
)
def test_acknowledged_as_they_end_faust_would_pass_over_events(
    committed: dict[Any, int], acked: list[int], lost: list[int]
) -> None:
    """The reason why acks are ordered. If this test fails one day, Faust has fixed its commits."""
    commits = Commits(committed)
    for offset in acked:
        commits.ack(event(offset))
    up_to = commits.commit().get((TOPIC, 0), 0)
    assert [n for n in range(committed.get((TOPIC, 0), 0), up_to) if n not in acked] == lost
