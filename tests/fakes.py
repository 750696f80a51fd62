"""Kafka as our streams see it, without a broker: an app, its topics, a stream and its events.

Stands below our own interfaces only: `Outbox`, `DeadLetters`, `InFlight`, `Batches` under test are the real ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import orjson
from faust.types import TP

from vision_app.providers.base import Picture
from vision_app.providers.decoding import DecodeRequest, decode
from vision_app.streams.actor import MAX_ROW_BYTES
from vision_app.streams.confirmed_table import ConfirmedTable
from vision_app.streams.faust_seams import Event, RecordMeta
from vision_app.streams.set_aside import Marks
from vision_app.streams.times import WorkerTimes
from vision_app.telemetry.watch import Watch

QUICK = WorkerTimes(poll=0.001, kafka_retry=(0.001,), sink_retry=(0.001,), outage_retry=(0.001,), ledger_retry=0.001)
"""The pauses of a worker under test."""

Refusal = Callable[[str, bytes | None], Exception | None]


@dataclass(frozen=True)
class Sent:
    """One record that the broker has taken."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = orjson.loads(self.value or b"null")
        return body


class FakeApp:
    """A `Worker`: what an agent's shell asks of Faust's app. `refuse` says which record is not taken, and how.

    What is only declared here is not there until a test puts it there; to ask for it is an AttributeError.
    """

    watch: Watch
    marks: Marks
    posts: ConfirmedTable
    budgets: ConfirmedTable
    parked: ConfirmedTable
    consumer: Any
    producer: Any
    conf: Any
    agent: Callable[..., Any]
    timer: Callable[..., Any]

    def __init__(self, times: WorkerTimes = QUICK) -> None:
        self.times, self.max_row_bytes = times, MAX_ROW_BYTES
        self.should_stop = False
        self.rebalancing = False
        self.consumer_generation_id = 1
        self.sent: list[Sent] = []
        self.refuse: Refusal = lambda topic, value: None

    def serving(self) -> bool:
        raise NotImplementedError("there are no tables here that could be complete")

    def topic(self, name: str, **_: Any) -> FakeTopic:
        return FakeTopic(self, name)

    def values(self, topic: str) -> list[dict[str, Any]]:
        return [sent.body for sent in self.sent if sent.topic == topic]


class FakeTopic:
    def __init__(self, app: FakeApp, name: str) -> None:
        self._app, self._name = app, name

    async def send(self, *, key: Any = None, value: Any = None, headers: Any = None) -> asyncio.Future[Any]:
        """Like Faust's: awaited once for the buffer, and what comes back once more for the broker."""
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        fault = self._app.refuse(self._name, value)
        if fault is None:
            self._app.sent.append(Sent(self._name, key, value, headers or {}))
            done.set_result(SimpleNamespace(topic=self._name, partition=0, offset=len(self._app.sent)))
        else:
            done.set_exception(fault)
        return done


@dataclass
class FakeMeta:
    """A `RecordMeta`."""

    topic: str
    partition: int
    tp: TP
    offset: int
    timestamp: float
    generation_id: int


@dataclass(eq=False)
class FakeEvent:
    """An `Event`."""

    value: bytes | None
    message: RecordMeta
    key: bytes | None = b"key"
    headers: Mapping[str, bytes] = field(default_factory=dict)


def event(
    offset: int,
    value: bytes | None = b"{}",
    *,
    partition: int = 0,
    generation: int = 1,
    topic: str = "topic",
    key: bytes | None = b"key",
    headers: Mapping[str, bytes] | None = None,
) -> FakeEvent:
    message = FakeMeta(
        topic=topic,
        partition=partition,
        tp=TP(topic, partition),
        offset=offset,
        timestamp=1_700_000_000.0 + offset,
        generation_id=generation,
    )
    return FakeEvent(value, message, key, headers or {})


class FakeStream:
    """A `Stream`: hands out what is put into it, and remembers what was acknowledged, in order."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[FakeEvent] = asyncio.Queue()
        self.acked: list[Event] = []
        self.is_noack = False

    def noack(self) -> FakeStream:
        self.is_noack = True
        return self

    async def events(self) -> AsyncIterator[FakeEvent]:
        while True:
            yield await self.queue.get()

    async def ack(self, event: Event) -> bool:
        self.acked.append(event)
        return True

    def put(self, *events: FakeEvent) -> None:
        for given in events:
            self.queue.put_nowait(given)

    @property
    def offsets(self) -> list[int]:
        return [event.message.offset for event in self.acked]


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait for a condition; fails, saying so, when it does not come true."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


async def settled(ticks: int = 20) -> None:
    """Let everything that can run now run, for tests that something does not happen."""
    for _ in range(ticks):
        await asyncio.sleep(0)


class LocalDecoders:
    """Decodes in this process: what the pool of `providers/decoders.py` does, without its processes."""

    def __init__(self, settings: Any) -> None:
        self._wish = DecodeRequest(max_dim=settings.vision_preprocess_max_dim, jpeg_quality=75)

    async def open(self) -> None:
        return

    async def close(self) -> None:
        return

    async def prepare(self, content: bytes, declared_mime: str) -> Picture:
        return decode(content, declared_mime, self._wish)
