"""Callers that hold connections: a thousand, silent, dripping or never ending, on both ports. The pipeline goes on."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from tests.integration.pipeline import Pipeline, Worker, picture, unique

CONNECTIONS = 1000
TRIES = 10
SILENT = b""
HEADERS = b"GET /api/v1/vision/posts HTTP/1.1\r\nHost: localhost\r\nX-Drip: "  # a byte now and then, never a line's end
BODY = (
    b"PUT /api/v1/budget/nobody HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 60000\r\n\r\n"
)
KINDS = (SILENT, HEADERS, HEADERS, BODY)


@pytest.fixture(autouse=True)
def files_enough() -> Iterator[None]:
    """For this process alone: the worker keeps the limit it was started with."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 3 * CONNECTIONS
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"needs {wanted} open files; the hard limit here is {hard}: raise it with ulimit -Hn")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Flood:
    """Keeps `CONNECTIONS` connections open on two ports; one that the server closes is opened again."""

    def __init__(self, worker: Worker) -> None:
        self._ports = [urlsplit(url).port for url in (worker.url, worker.metrics_url)]
        self.opened = self.closed = 0

    async def hold(self, number: int) -> None:
        port, start = self._ports[number % 2], KINDS[number // 2 % len(KINDS)]
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                self.opened += 1
                try:
                    writer.write(start)
                    await self._drip(reader, writer, bytes(bool(start)))
                finally:
                    self.closed += 1
                    writer.close()
            await asyncio.sleep(1)

    async def _drip(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, drop: bytes) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    if not await reader.read(1000):
                        return
            writer.write(drop and b"x")


@pytest.fixture
async def flood(worker: Worker, pipe: Pipeline) -> AsyncIterator[Flood]:
    flood = Flood(worker)
    tasks = [asyncio.create_task(flood.hold(number)) for number in range(CONNECTIONS)]
    while flood.opened < CONNECTIONS:
        await asyncio.sleep(0.05)
    yield flood
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_posts_are_analyzed_and_pages_answer_meanwhile(flood: Flood, pipe: Pipeline, worker: Worker) -> None:
    tenant, since = unique("flooded"), await pipe.newest()
    posts = [f"{tenant}-{number}" for number in range(5)]
    for post in posts:
        await pipe.publish(tenant, post, [await pipe.upload(tenant, picture())])
    found = await pipe.announced(posts, since)
    assert {announced.event_type for announced in found.values()} == {"posts.vision.analyzed"}
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        for url in (
            f"{worker.url}/readyz",
            f"{worker.url}/api/v1/vision/posts/{posts[0]}",
            worker.metrics_url + "/metrics",
        ):
            assert [await _asked(client, url) for _ in range(5)] == [200] * 5, url
    assert flood.opened - flood.closed > 100, "nobody was there any more"
    assert worker.open_files < 700
    assert "Traceback" not in worker.log()


async def _asked(client: httpx.AsyncClient, url: str) -> int | None:
    """The status; an honest caller may meet a full house, and asks again."""
    for _ in range(TRIES):
        with contextlib.suppress(httpx.TransportError):
            return (await client.get(url)).status_code
    return None


async def test_callers_that_never_finish_do_not_delay_shutdown(flood: Flood, worker: Worker) -> None:
    assert worker.stop() < 20
