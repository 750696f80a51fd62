"""What the worker's parts take from Faust: as types, and where Faust offers nothing public, its private parts.

Nothing outside of this module names a private part of Faust's. Each has its reason here, and a test in
`tests/unit/test_faust_seams.py` that fails when another version of Faust no longer has it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Protocol

from faust.transport.drivers.aiokafka import Consumer
from faust.types import TP

from vision_app.telemetry.watch import Place, Watch

from .confirmed_table import ConfirmedTable


class RecordMeta(Protocol):
    """Where a record lies. `timestamp` is seconds since the epoch; `generation_id` the group's when it was fetched."""

    topic: str
    partition: int
    tp: TP
    offset: int
    timestamp: float
    generation_id: int


class Event(Protocol):
    """A record of Kafka's on its way through an agent."""

    @property
    def key(self) -> Any: ...
    @property
    def value(self) -> Any: ...
    @property
    def headers(self) -> Mapping[str, Any] | None: ...
    @property
    def message(self) -> RecordMeta: ...


class Stream(Protocol):
    """What an agent reads. Ours are all `noack()`: acknowledgements are by hand."""

    def noack(self) -> Stream: ...
    def events(self) -> AsyncIterator[Event]: ...
    def ack(self, event: Event) -> Awaitable[bool]: ...


class Worker(Protocol):
    """The worker's app (`vision_app.app.VisionApp`), as its agents, bridges and streams see it."""

    watch: Watch
    posts: ConfirmedTable
    budgets: ConfirmedTable
    parked: ConfirmedTable

    def serving(self) -> bool:
        """Whether the tables here are this generation's and complete."""

    @property
    def should_stop(self) -> bool: ...
    @property
    def rebalancing(self) -> bool: ...
    @property
    def consumer_generation_id(self) -> int: ...
    @property
    def consumer(self) -> Any: ...
    @property
    def producer(self) -> Any: ...
    @property
    def conf(self) -> Any: ...
    @property
    def topic(self) -> Callable[..., Any]: ...
    @property
    def agent(self) -> Callable[..., Any]: ...
    @property
    def timer(self) -> Callable[..., Any]: ...


def place_of(event: Event) -> Place:
    """The place of an event."""
    at = event.message
    return Place(at.topic, at.partition, str(at.offset))


def watch_of(app: Worker) -> Watch:
    """The app's watch. An app that was given none, as in tests of one part, gets one that nobody looks at."""
    watch = getattr(app, "watch", None)
    if not isinstance(watch, Watch):
        watch = app.watch = Watch()
    return watch


# --- private parts ----------------------------------------------------------------------------------------------------


def committed_offset(app: Worker, place: TP) -> int | None:
    """What Faust has committed of a partition, None if nothing was.

    Faust's consumer has no question for it, and to ask the broker costs a request per partition each time.
    """
    offset: int | None = app.consumer._committed_offset[place]
    return offset


async def fetch_metadata(app: Worker, topic: str) -> None:
    """Have the producer know a topic's partitions, so that a key's partition can be told.

    Faust's router asks for it in a way that fails until the producer has sent something to the topic.
    """
    await app.producer._producer.client.add_topic(topic)


class RewindingConsumer(Consumer):
    """Faust's consumer, which also rewinds the partitions that have no committed offset.

    Recovery reads ahead of the partitions, and throws away what it has fetched. `perform_seek` brings back those that
    have a committed offset (`_read_offset`) and leaves the others behind it.
    """

    async def perform_seek(self) -> None:
        await super().perform_seek()
        for place in self.assignment():
            if self._read_offset.get(place) is None and place.topic not in self.app.tables.changelog_topics:
                await self.seek(place, 0)  # an offset that retention has passed is reset to the earliest there is


def use_consumer(app: Any, consumer: type[Consumer]) -> None:
    """Have the app's transport make consumers of this class. Call it before the app starts."""
    app.transport.Consumer = consumer
