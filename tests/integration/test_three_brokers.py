"""Three brokers: everything is stored three times, and posts end while one broker is away."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.integration.pipeline import Pipeline, Worker, picture, pipeline, unique
from vision_app.clients.kafka import kafka_admin
from vision_app.kafka_topics import look_at_topics, wanted_topics
from vision_app.settings import Settings, load_settings
from vision_app.stack import client
from vision_app.stack.client import running_stack
from vision_app.stack.home import Home
from vision_app.stack.state import Condition, ServiceState

SECONDS = 90.0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("brokers")


@pytest.fixture(scope="module")
def stack(home: Path) -> Iterator[dict[str, str]]:
    with running_stack(home, ("redis", "kafka", "postgres", "s3", "simulator"), brokers=3) as variables:
        yield {**variables, "FEATURE_NEO4J_ENABLED": "false"}


@pytest.fixture
def settings(stack: Mapping[str, str]) -> Settings:
    return load_settings(**{name.lower(): value for name, value in stack.items()})


@pytest.fixture
async def pipe(settings: Settings, worker: Worker) -> AsyncIterator[Pipeline]:
    await worker.ready()
    async with pipeline(settings) as opened:
        yield opened


async def test_everything_is_stored_three_times(settings: Settings, pipe: Pipeline) -> None:
    assert len(settings.kafka_bootstrap_servers.split(",")) == 3
    await _end_posts(pipe, unique("stored"))
    assert (await look_at_topics(settings)).weaker == []
    async with kafka_admin(settings) as admin:
        described = await admin.describe_topics([*wanted_topics(settings), "__consumer_offsets"])
    copies = {(found["topic"], len(part["replicas"])) for found in described for part in found["partitions"]}
    assert copies == {(name, 3) for name in (*wanted_topics(settings), "__consumer_offsets")}


async def test_posts_end_when_a_broker_is_killed(home: Path, pipe: Pipeline, worker: Worker) -> None:
    before = _broker(home, 2)
    _signal(before, signal.SIGKILL)
    await _end_posts(pipe, unique("killed"), worker)
    await _until(lambda: _is_back(_broker(home, 2), before), "the supervisor starts it again")


@pytest.mark.load
async def test_posts_end_while_a_broker_is_frozen_and_doctor_names_the_copies_that_are_behind(
    home: Path, pipe: Pipeline, worker: Worker, settings: Settings
) -> None:
    await _until_in_sync(settings)
    frozen = _broker(home, 3)
    _signal(frozen, signal.SIGSTOP)
    try:
        await _end_posts(pipe, unique("frozen"), worker)
        (behind,) = (await look_at_topics(settings)).weaker
        assert "copies that are not in sync" in behind
    finally:
        _signal(frozen, signal.SIGCONT)
    await _until_in_sync(settings)


async def _end_posts(pipe: Pipeline, prefix: str, worker: Worker | None = None) -> None:
    """Publish posts with a new picture each and wait until all are announced.

    `worker`: start it again when it ends, as `vision up` does: it ends if its tables are not confirmed in time.
    """
    since, posts = await pipe.newest(), [f"{prefix}-{number}" for number in range(8)]
    for post in posts:
        await pipe.publish(prefix, post, [await pipe.upload(prefix, picture())])
    waiting = asyncio.create_task(pipe.announced(posts, since))
    while not (await asyncio.wait({waiting}, timeout=0.2))[0]:
        if worker is not None and not worker.alive:
            worker.start()
    waiting.result()


def _broker(home: Path, number: int) -> ServiceState:
    state = client.live_state(Home(home))
    assert state is not None
    return next(service for service in state.services if service.name == f"kafka-{number}")


def _signal(broker: ServiceState, number: signal.Signals) -> None:
    assert broker.process is not None
    os.kill(broker.process.pid, number)


def _is_back(now: ServiceState, before: ServiceState) -> bool:
    return now.condition is Condition.READY and now.process != before.process


async def _until_in_sync(settings: Settings) -> None:
    deadline = time.monotonic() + SECONDS
    while left := (await look_at_topics(settings)).weaker:
        assert time.monotonic() < deadline, left
        await asyncio.sleep(0.5)


async def _until(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < deadline, f"not in time: {what}"
        await asyncio.sleep(0.2)
