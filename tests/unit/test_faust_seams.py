"""The private parts of Faust that we use exist and behave as we rely on. An incompatible new Faust fails here."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.protocol.group import HeartbeatRequest, SyncGroupRequest
from faust.types import TP

from vision_app.app import VisionApp, create_app
from vision_app.settings import load_settings
from vision_app.streams import faust_seams
from vision_app.streams.faust_seams import (
    RewindingConsumer,
    Worker,
    committed_offset,
    fetch_metadata,
    records_to_recover,
)
from vision_app.web.worker import ServedWorker


@pytest.fixture
async def app() -> AsyncIterator[VisionApp]:
    built: Any = create_app(load_settings())
    built.loop = asyncio.get_running_loop()
    built.finalize()
    yield built
    if built._consumer is not None:
        built._consumer._thread.thread_loop.close()  # Faust creates one and closes it only if it was started


@pytest.fixture
def consumer(app: Any) -> Any:
    return app.consumer


async def test_the_apps_consumer_is_ours(app: VisionApp, consumer: Any) -> None:
    assert isinstance(consumer, RewindingConsumer)
    assert inspect.iscoroutinefunction(RewindingConsumer.__mro__[1].perform_seek)  # type: ignore[attr-defined]  # of Faust


async def test_faust_keeps_what_was_committed_and_read_by_partition(app: Any, consumer: Any) -> None:
    place = TP("vision.media", 3)
    assert committed_offset(app, place) is None
    consumer._committed_offset[place] = 7
    assert committed_offset(app, place) == 7
    assert consumer._read_offset.get(place) is None


async def test_faust_counts_what_a_recovery_lacks(app: Any) -> None:
    assert records_to_recover(app) == 0
    place, recovery = TP("vision-posts-changelog", 1), app.tables.recovery
    recovery.active_highwaters[place], recovery.active_offsets[place] = 9, 4
    assert records_to_recover(app) == 0, "no recovery is under way"
    app.in_recovery = True
    assert records_to_recover(app) == 5


async def test_a_partition_without_a_commit_is_sought_to_its_beginning(
    app: Any, consumer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, new, table = TP("vision.media", 0), TP("vision.media", 1), TP("vision-posts-changelog", 1)
    sought = []

    async def seek_wait(partitions: dict[TP, int]) -> None:
        sought.append(partitions)

    async def perform_seek(self: Any) -> None:
        consumer._read_offset[done] = 5

    # patched: Faust's and aiokafka's, without a broker
    monkeypatch.setattr(RewindingConsumer.__mro__[1], "perform_seek", perform_seek)
    # patched: Faust's and aiokafka's, without a broker
    monkeypatch.setattr(consumer, "assignment", lambda: {done, new, table})
    monkeypatch.setattr(consumer, "seek_wait", seek_wait)  # patched: Faust's and aiokafka's, without a broker
    await consumer.perform_seek()
    assert sought == [{new: 0}]


async def test_requests_of_the_consumer_wait_as_long_as_a_session_and_only_joining_the_group_longer(
    app: Any, consumer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    # patched: Faust makes its consumer and producer by itself, so nothing can be passed to them
    monkeypatch.setattr(faust_seams, "limit_waits", lambda *limits: given.append(limits))
    made = consumer._thread._create_consumer(loop=asyncio.get_running_loop())
    ((limited, connecting, answering),) = given
    assert (limited, connecting) == (made, 5)
    assert answering(HeartbeatRequest("g", 1, "m")) == app.conf.broker_session_timeout
    assert answering(SyncGroupRequest("g", 1, "m", "", [])) == app.conf.broker_request_timeout
    await made.stop()


async def test_a_record_can_be_sent_twice_in_its_time(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    # patched: Faust makes its consumer and producer by itself, so nothing can be passed to them
    monkeypatch.setattr(faust_seams, "limit_waits", lambda *limits: given.append(limits))
    made = app.producer._new_producer()
    ((limited, connecting, answering),) = given
    assert limited is made
    assert connecting * 2 == answering(None) * 2 == app.conf.producer_request_timeout
    await made.stop()


async def test_the_producers_client_can_be_asked_for_a_topics_metadata(
    app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer = AIOKafkaProducer(bootstrap_servers="127.0.0.1:1")
    asked = []

    async def add_topic(topic: str) -> None:
        asked.append(topic)

    assert inspect.signature(producer.client.add_topic).parameters.keys() == {"topic"}
    monkeypatch.setattr(producer.client, "add_topic", add_topic)  # patched: Faust's and aiokafka's, without a broker
    assert "_producer" in inspect.getsource(type(app.producer)), "Faust's producer keeps aiokafka's under another name"
    monkeypatch.setattr(app.producer, "_producer", producer)  # patched: Faust's and aiokafka's, without a broker
    await fetch_metadata(app, "vision.media")
    assert asked == ["vision.media"]
    await producer.stop()


@pytest.mark.parametrize("protocol", [Worker, ServedWorker])
async def test_the_app_is_what_its_parts_take_it_for(app: Any, protocol: type) -> None:
    missing = [name for name in _members(protocol) if name not in vars(app) and not hasattr(type(app), name)]
    assert missing == []


def _members(protocol: type) -> Iterator[str]:
    for base in protocol.__mro__:
        yield from (name for name in vars(base) if not name.startswith("_"))
        yield from (name for name in getattr(base, "__annotations__", {}) if not name.startswith("_"))
