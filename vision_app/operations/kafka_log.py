"""Reads stretches of Kafka topics without a group and without commits, and sends single records.

Every read has an end that was fixed before it began, so that it ends although the topics grow.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiokafka import TopicPartition
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaTimeoutError
from aiokafka.partitioner import DefaultPartitioner

from vision_app.clients.kafka import kafka_admin, kafka_consumer, kafka_producer
from vision_app.settings import Settings
from vision_app.texts import say
from vision_app.topics import MAX_MESSAGE_BYTES

from .connections import OperationError

Stretch = tuple[int, int]
"""Offsets of one partition: from the first (included) to the second (excluded)."""

Client = TypeVar("Client")
Answer = TypeVar("Answer")

COORDINATOR_SECONDS = 0.5
"""Time between two questions to a broker that has no coordinator of groups yet."""

_NUMBER = re.compile(r"[0-9]{1,19}")
CONNECT_SECONDS = 6.0
"""With the start of the command, a frozen broker is told of within 10 s."""
STALLED_SECONDS = 30.0
FETCH_MS = 500
LAST_MS = 2**63 - 1  # the largest time in Kafka; in ids of Redis times go up to 2**64 - 1


@dataclass(frozen=True)
class Record:
    """One Kafka record. `at_ms` is the broker's append time."""

    topic: str
    partition: int
    offset: int
    at_ms: int
    key: bytes | None
    value: bytes
    headers: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.topic}-{self.partition}-{self.offset}"


class KafkaLog:
    """Reads records by place or time. Raises KafkaError."""

    def __init__(self, settings: Settings, consumer: Any, admin: Any, topics: frozenset[str]) -> None:
        self._settings, self._consumer, self._admin, self._topics = settings, consumer, admin, topics

    def partitions(self, topics: Iterable[str]) -> list[TopicPartition]:
        """All partitions of the topics that exist."""
        return [
            TopicPartition(topic, partition)
            for topic in topics
            if topic in self._topics
            for partition in range(self._settings.kafka_topic_partitions)
        ]

    def partition_of(self, topic: str, key: bytes) -> list[TopicPartition]:
        """The partition with the records of a key; none if the topic does not exist."""
        numbers = [place.partition for place in self.partitions([topic])]
        return [TopicPartition(topic, DefaultPartitioner()(key, numbers, numbers))] if numbers else []

    async def between(
        self, places: Sequence[TopicPartition], since_ms: int | None, until_ms: int | None
    ) -> dict[TopicPartition, Stretch]:
        """The stretches of records appended from one time (included) to another (excluded)."""
        if not places:
            return {}
        ends = await self._consumer.end_offsets(places)
        starts = await self._at(places, since_ms, ends) if since_ms is not None else None
        starts = starts or await self._consumer.beginning_offsets(places)
        stops = await self._at(places, until_ms, ends) if until_ms is not None else ends
        return {place: (starts[place], stops[place]) for place in places if starts[place] < stops[place]}

    async def begins(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset of the first record that each partition still has."""
        return dict(await self._consumer.beginning_offsets(places)) if places else {}

    async def ends(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset of the next record of each partition."""
        return dict(await self._consumer.end_offsets(places)) if places else {}

    async def _at(
        self, places: Sequence[TopicPartition], at_ms: int, ends: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        asked = min(max(0, at_ms), LAST_MS)
        found = await self._consumer.offsets_for_times(dict.fromkeys(places, asked))
        return {place: found[place].offset if found.get(place) else ends[place] for place in places}

    async def read(self, stretches: Mapping[TopicPartition, Stretch]) -> AsyncIterator[Record]:
        """The records of the stretches, in order within each partition."""
        begins = await self._consumer.beginning_offsets(list(stretches)) if stretches else {}
        left = {place: end for place, (start, end) in stretches.items() if max(start, begins[place]) < end}
        if not left:
            return  # closing the consumer right after it was given an empty assignment takes minutes (aiokafka 0.14)
        self._consumer.assign(list(left))
        for place in left:
            self._consumer.seek(place, max(stretches[place][0], begins[place]))
        moved = time.monotonic()
        while left:
            batches = await self._consumer.getmany(*left, timeout_ms=FETCH_MS)
            for place, messages in batches.items():
                for message in messages:
                    if message.offset < left[place]:
                        yield _record(message)
            for place in [place for place in left if await self._consumer.position(place) >= left[place]]:
                del left[place]
            moved = time.monotonic() if batches else moved
            if time.monotonic() - moved > STALLED_SECONDS:
                raise KafkaTimeoutError(
                    say("no records from {topics}", topics=", ".join(place.topic for place in left))
                )

    async def one(self, topic: str, partition: int, offset: int) -> Record | None:
        """The record at a place; None if it was deleted or never existed."""
        place = TopicPartition(topic, partition)
        if place not in self.partitions([topic]) or (await self._consumer.end_offsets([place]))[place] <= offset:
            return None
        async for record in self.read({place: (offset, offset + 1)}):
            return record
        return None

    async def committed(self) -> dict[TopicPartition, int]:
        """The committed offset of the workers' group for each partition."""
        group = self._settings.kafka_app_id
        offsets = await ask_coordinator(lambda: self._admin.list_consumer_group_offsets(group))
        return {place: found.offset for place, found in offsets.items() if found.offset >= 0}

    async def members(self) -> list[str]:
        """The host of each member of the workers' group, as the broker sees it. Empty: no worker is connected."""
        group = self._settings.kafka_app_id
        answers = await ask_coordinator(lambda: self._admin.describe_consumer_groups([group]))
        groups = [group for answer in answers for group in answer.to_object()["groups"]]
        return [str(member["client_host"]).lstrip("/") for group in groups for member in group["members"]]


async def ask_coordinator(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """Ask for something of a group. Again while the broker has no coordinator: it makes its topic when first asked.

    Raises KafkaError, after CONNECT_SECONDS for the lack of a coordinator.
    """
    deadline = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            return await ask()
        except GroupCoordinatorNotAvailableError:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(COORDINATOR_SECONDS)


@asynccontextmanager
async def kafka_log(settings: Settings) -> AsyncIterator[KafkaLog]:
    """Connect for reading. Raises KafkaError, after CONNECT_SECONDS if the broker does not answer."""
    async with in_time(settings, _log(settings)) as log:
        yield log


@asynccontextmanager
async def in_time(settings: Settings, connecting: AbstractAsyncContextManager[Client]) -> AsyncIterator[Client]:
    """A connected client. A frozen broker accepts connections and never answers; clients wait a minute for it."""
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                client = await stack.enter_async_context(connecting)
        except TimeoutError as fault:
            raise KafkaTimeoutError(
                say(
                    "Kafka at {kafka_bootstrap_servers} did not answer within {connect_seconds:.0f} s; check "
                    "KAFKA_BOOTSTRAP_SERVERS, and whether the broker is frozen or overloaded",
                    kafka_bootstrap_servers=settings.kafka_bootstrap_servers,
                    connect_seconds=CONNECT_SECONDS,
                )
            ) from fault
        yield client


@asynccontextmanager
async def _log(settings: Settings) -> AsyncIterator[KafkaLog]:
    async with kafka_admin(settings) as admin, kafka_consumer(settings, auto_offset_reset="earliest") as consumer:
        yield KafkaLog(settings, consumer, admin, frozenset(await consumer.topics()))


@asynccontextmanager
async def kafka_sender(settings: Settings) -> AsyncIterator[KafkaSender]:
    """Connect for sending. Raises KafkaError, after CONNECT_SECONDS if the broker does not answer."""
    async with in_time(settings, _sender(settings)) as sender:
        yield sender


@asynccontextmanager
async def _sender(settings: Settings) -> AsyncIterator[KafkaSender]:
    async with kafka_producer(settings, acks="all", max_request_size=MAX_MESSAGE_BYTES) as producer:
        yield KafkaSender(producer)


class KafkaSender:
    """Sends records, each acknowledged by the broker before the call returns."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer

    async def send(self, topic: str, key: bytes | None, value: bytes, headers: Mapping[str, bytes]) -> str:
        """Returns the record's place as topic-partition-offset. Raises KafkaError."""
        sent = await self._producer.send_and_wait(topic, value, key=key, headers=list(headers.items()))
        return f"{sent.topic}-{sent.partition}-{sent.offset}"


def parse_id(text: str) -> tuple[str, int, int]:
    """Topic, partition and offset of a record's id. Raises OperationError."""
    parts = text.rsplit("-", 2)
    if len(parts) != 3 or not all(_NUMBER.fullmatch(part) for part in parts[1:]):
        raise OperationError(say("{text!r} is no place in Kafka; give it as topic-partition-offset", text=text))
    return parts[0], int(parts[1]), int(parts[2])


def _record(message: Any) -> Record:
    return Record(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        at_ms=message.timestamp,
        key=message.key,
        value=message.value or b"",
        headers=dict(message.headers),
    )
