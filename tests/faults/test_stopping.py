"""Workers that are told to end, share work anew or freeze while something waits: they end in time and lose nothing."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.integration.pipeline import Pipeline, Worker, pair_of_workers, picture, pipeline, unique
from vision_app.lab.faults import Proxies, proxied
from vision_app.settings import Settings

pytestmark = pytest.mark.load

SESSION_SECONDS = 6
END_SECONDS = 30.0
"""A worker that only waits has no call to finish: it ends in a few seconds, far below the deadline of one handler."""

SHARE_SECONDS = 60.0
"""So long may a worker need to start, with a store that hangs, and to get its part of the work."""

BUSY = {"endpoint": "chat", "fault": {"kind": "status", "status": 429, "retry_after": 1}}
DOWN = {"endpoint": "upload", "fault": {"kind": "status", "status": 503}}


@pytest.fixture
async def proxies(stack: dict[str, str]) -> AsyncIterator[Proxies]:
    async with proxied(stack) as made:
        yield made


@pytest.fixture
def workers(stack: Mapping[str, str], proxies: Proxies, tmp_path: Path) -> Iterator[list[Worker]]:
    """Behind the proxies."""
    extra = {
        **proxies.env,
        "KAFKA_SESSION_TIMEOUT_SECONDS": str(SESSION_SECONDS),
        "GIGACHAT_CIRCUIT_BREAKER_FAILURE_THRESHOLD": "2",
        "GIGACHAT_CIRCUIT_BREAKER_RECOVERY_TIMEOUT": "5",
    }
    with pair_of_workers(stack, tmp_path, **extra) as pair:
        yield pair


@pytest.fixture
async def pipe(stack_settings: Settings) -> AsyncIterator[Pipeline]:
    async with pipeline(stack_settings) as opened:
        yield opened


async def test_a_worker_stops_and_rebalances_while_rows_wait_for_postgres(
    pipe: Pipeline, workers: list[Worker], proxies: Proxies
) -> None:
    workers[0].start()
    await workers[0].ready()
    tag, since = unique("stuck"), await pipe.newest()
    known = await _publish(pipe, tag, 3)  # a new tenant's budget would wait for Postgres, too
    await pipe.announced(known, since)
    proxies.proxies["postgres"].inject("hang")
    posts = known + await _publish(pipe, tag, 6, first=3)
    await _until(lambda: _says(workers[0], "analysis_completed", len(posts)))

    await _shared(workers[1])  # the sink that waits must let go of its partitions
    assert await asyncio.to_thread(workers[0].stop) < END_SECONDS
    proxies.heal()

    await pipe.announced(posts, since)
    await pipe.idle()
    await _ended_once(pipe, tag, posts, since)


@pytest.mark.parametrize(("fault", "said"), [(BUSY, "gate_paused"), (DOWN, "gate_opened")], ids=["paused", "open"])
async def test_a_worker_stops_and_rebalances_while_calls_wait_at_the_gate(
    pipe: Pipeline, workers: list[Worker], fault: dict[str, Any], said: str
) -> None:
    workers[0].start()
    await workers[0].ready()
    tag, since = unique("gate"), await pipe.newest()
    await pipe.faults(fault)
    posts = await _publish(pipe, tag, 6)
    await _until(lambda: _says(workers[0], said, 1))

    await _shared(workers[1])
    assert await asyncio.to_thread(workers[0].stop) < END_SECONDS
    await pipe.faults()
    await pipe.announced(posts, since)
    await pipe.idle()
    await _ended_once(pipe, tag, posts, since)


async def test_a_worker_frozen_beyond_its_session_continues(pipe: Pipeline, workers: list[Worker]) -> None:
    for worker in workers:
        worker.start()
    await asyncio.gather(*(worker.ready() for worker in workers))
    await pipe.faults({"endpoint": "chat", "fault": {"kind": "latency", "seconds": 1, "max_seconds": 3}})
    tag, since = unique("frozen"), await pipe.newest()
    posts = await _publish(pipe, tag, 30)
    await _until(lambda: _says(workers[0], "analysis_completed", 2))

    workers[0].send(signal.SIGSTOP)
    await asyncio.sleep(SESSION_SECONDS + 6)  # so long, and not a condition, is what the group takes it for dead after
    workers[0].send(signal.SIGCONT)
    await pipe.announced(posts, since)
    await pipe.idle()
    await _ended_once(pipe, tag, posts, since)


async def _shared(worker: Worker) -> None:
    """One more worker joins and gets its part in time."""
    worker.start()
    async with asyncio.timeout(SHARE_SECONDS):
        await worker.ready()


async def _publish(pipe: Pipeline, tag: str, count: int, first: int = 0) -> list[str]:
    posts = [f"{tag}-post-{number}" for number in range(first, first + count)]
    for number, post in enumerate(posts):
        tenant = f"{tag}-{number % 3}"
        await pipe.publish(tenant, post, [await pipe.upload(tenant, picture())])
    return posts


async def _ended_once(pipe: Pipeline, tag: str, posts: list[str], since: str) -> None:
    """One event each, and one paid call for each picture."""
    events = await pipe.all_announced(posts, since)
    assert {post: len(entries) for post, entries in events.items()} == dict.fromkeys(posts, 1)
    assert {entries[0].event_type for entries in events.values()} == {"posts.vision.analyzed"}
    assert len(await pipe.billed(tag)) == len(posts)


def _says(worker: Worker, text: str, times: int) -> bool:
    return worker.log().count(text) >= times


async def _until(holds: Callable[[], object]) -> None:
    while not holds():  # the test's own time limit ends this
        await asyncio.sleep(0.1)
