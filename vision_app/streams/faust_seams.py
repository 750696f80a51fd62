"""What the worker uses of Faust: its types, and its private parts where Faust has no public API.

No other module names a private part of Faust. Each has its reason here, and a test in `tests/unit/test_faust_seams.py`
that fails when a version of Faust no longer has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.protocol.group import JoinGroupRequest, SyncGroupRequest
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Producer
from faust.types import TP

from vision_app.clients.kafka_fetch import quicken_fetches
from vision_app.clients.kafka_patience import CONNECTING_SECONDS, limit_waits
from vision_app.telemetry.watch import RecordPlace, Watch

from .confirmed_table import ConfirmedTable
from .times import WorkerTimes


class RecordMeta(Protocol):
    """Where a record is. `timestamp`: seconds since the epoch. `generation_id`: the group's when it was fetched."""

    topic: str
    partition: int
    tp: TP
    offset: int
    timestamp: float
    generation_id: int


class Event(Protocol):
    """A Kafka record that an agent handles."""

    @property
    def key(self) -> Any: ...
    @property
    def value(self) -> Any: ...
    @property
    def headers(self) -> Mapping[str, Any] | None: ...
    @property
    def message(self) -> RecordMeta: ...


class Stream(Protocol):
    """What an agent reads. Our streams are all `noack()`: we acknowledge by hand."""

    def noack(self) -> Stream: ...
    def events(self) -> AsyncIterator[Event]: ...
    def ack(self, event: Event) -> Awaitable[bool]: ...


class Worker(Protocol):
    """The worker's app (`vision_app.app.VisionApp`), as its agents, bridges and streams see it."""

    watch: Watch
    times: WorkerTimes
    max_row_bytes: int
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


def place_of(event: Event) -> RecordPlace:
    """The place of an event."""
    at = event.message
    return RecordPlace(at.topic, at.partition, str(at.offset))


def watch_of(app: Worker) -> Watch:
    """The app's watch. An app without one, as in tests of one part, gets a watch that is not started."""
    watch = getattr(app, "watch", None)
    if not isinstance(watch, Watch):
        watch = app.watch = Watch()
    return watch


# --- private parts ----------------------------------------------------------------------------------------------------


def committed_offset(app: Worker, place: TP) -> int | None:
    """The offset that Faust has committed for a partition; None if there is none.

    Faust's consumer has no public method for this. Asking the broker costs one request per partition each time.
    """
    offset: int | None = app.consumer._committed_offset[place]
    return offset


def records_to_recover(app: Any) -> int:
    """How many records of the changelogs the tables of a Faust app still lack; 0 when no recovery is under way."""
    if not app.in_recovery:
        return 0
    left: int = app.tables.recovery.active_remaining_total()
    return left


async def fetch_metadata(app: Worker, topic: str) -> None:
    """Let the producer fetch a topic's partitions, so that the partition of a key can be computed.

    Faust's router reads them in a way that fails until the producer has sent something to the topic.
    """
    await app.producer._producer.client.add_topic(topic)


class ConsumerThread(AIOKafkaConsumerThread):
    """Faust's consumer thread, whose requests wait no longer for a silent broker than a session lasts, and whose reads
    take nothing that would be thrown away.

    Its fetches are those of `clients/kafka_fetch.py`, since they are the largest part of its processor time.
    Only joining a group may take as long as `broker_request_timeout`: the coordinator answers when the others have
    joined. With one timeout for all, what a frozen broker led would not be read for as long.
    """

    def _create_consumer(self, loop: asyncio.AbstractEventLoop) -> AIOKafkaConsumer:
        consumer = super()._create_consumer(loop)
        session, joining = self.app.conf.broker_session_timeout, self.app.conf.broker_request_timeout

        def seconds(request: Any) -> float:
            return float(joining if isinstance(request, JoinGroupRequest | SyncGroupRequest) else session)

        limit_waits(consumer, min(CONNECTING_SECONDS, session), seconds)
        quicken_fetches(consumer)
        return consumer

    async def _fetch_records(self, consumer: AIOKafkaConsumer, *arguments: Any, **options: Any) -> Any:
        """Read records, but put them back if the flow was stopped meanwhile: then Faust throws them away.

        A read that waits during a rebalance is answered in the recovery, from all partitions, since none is wanted yet.
        Faust goes back to the committed offsets then, but a changelog has none: the recovery would wait for ever for
        its records. Nothing is awaited between the read and the rewinding, so no other position is overwritten.
        """
        found = await super()._fetch_records(consumer, *arguments, **options)
        if not found or self.consumer.flow_active:
            return found
        for place in consumer.assignment() & found.keys():
            consumer.seek(place, found[place][0].offset)
        return {}


class ImpatientProducer(Producer):
    """Faust's producer, which asks for another leader while there is still time to send a record.

    It gives a record up after `producer_request_timeout`, and Faust lets one request take as long, so a silent broker
    left no time for a second try.
    """

    def _new_producer(self, transactional_id: str | None = None) -> AIOKafkaProducer:
        producer = super()._new_producer(transactional_id)
        half = self.app.conf.producer_request_timeout / 2
        limit_waits(producer, min(CONNECTING_SECONDS, half), lambda _: half)
        return producer


class RewindingConsumer(Consumer):
    """Faust's consumer, which also rewinds the partitions that have no committed offset.

    During recovery Faust fetches records of these partitions and throws them away. Afterwards `perform_seek` rewinds
    only partitions with a committed offset (`_read_offset`). The others would skip what was thrown away.
    """

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def perform_seek(self) -> None:
        await super().perform_seek()
        changelogs = self.app.tables.changelog_topics
        if unread := [
            at for at in self.assignment() if self._read_offset.get(at) is None and at.topic not in changelogs
        ]:
            # in the consumer's thread; if offset 0 is deleted already, the consumer resets to the earliest one
            await self.seek_wait(dict.fromkeys(unread, 0))


def use_consumer(app: Any, consumer: type[Consumer]) -> None:
    """Make the app's transport create consumers of this class. Call it before the app starts."""
    app.transport.Consumer = consumer


def use_producer(app: Any, producer: type[Producer]) -> None:
    """Make the app's transport create producers of this class. Call it before the app starts."""
    app.transport.Producer = producer
