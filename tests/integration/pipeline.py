"""The whole pipeline for integration tests: workers as processes, a producer and a consumer around them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
from PIL import Image, ImageOps
from redis.asyncio import Redis

from vision_app import demo_media
from vision_app.clients.redis import redis_client
from vision_app.messages import Medium
from vision_app.operations.backlog import await_idle
from vision_app.operations.neighbours import (
    Announced,
    announcements_since,
    await_announcements,
    newest_announcement,
    publish,
    upload,
    uploaded_event,
)
from vision_app.settings import Settings
from vision_app.stores.s3 import S3Store

READY_SECONDS = 90
DEADLINE_SECONDS = 100
PICTURES = Path(demo_media.__path__[0])
COMMANDS = {
    "python": [sys.executable, "-m", "vision_app", "worker"],
    "faust": [str(Path(sys.executable).with_name("faust")), "-A", "vision_app.app", "worker"],
    "crash points": [sys.executable, "-m", "vision_app.lab.crash_worker", "worker"],
}


class Worker:
    """One worker process. `number` gives it the identity that stays the same after a restart."""

    def __init__(self, stack: Mapping[str, str], logs: Path, number: int, **extra: str) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.metrics_url = f"http://127.0.0.1:{free_port()}"
        self._log = logs / f"worker-{number}.log"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("VISION_")},
            **stack,
            "VISION_WORKER_ID": f"worker-{number}",
            "VISION_API_PORT": self.url.rpartition(":")[2],
            "METRICS_PORT": self.metrics_url.rpartition(":")[2],
            **extra,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, command: str = "python") -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(COMMANDS[command], env=self._environment, stdout=log, stderr=log)

    async def ready(self) -> None:
        """Wait until GET /readyz says 200; fails with the end of the log."""
        deadline = time.monotonic() + READY_SECONDS
        async with httpx.AsyncClient(trust_env=False) as client:
            while time.monotonic() < deadline:
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.get(f"{self.url}/readyz")).status_code == 200:
                        return
                assert self.alive, f"the worker ended:\n{self.log()[-4000:]}"
                await asyncio.sleep(0.1)
        raise AssertionError(f"the worker did not become ready:\n{self.log()[-4000:]}")

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """What no program can prepare for."""
        assert self._process
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> float:
        """SIGTERM; returns the seconds it took. Fails if it takes longer than the handler's deadline and some more."""
        assert self._process
        started = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=80)
        return time.monotonic() - started

    def send(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)

    def end(self) -> None:
        if self.alive:
            self.kill()

    def log(self) -> str:
        return self._log.read_text("utf-8", "replace")

    @property
    def resident_bytes(self) -> int:
        assert self._process
        return int(psutil.Process(self._process.pid).memory_info().rss)

    @property
    def open_files(self) -> int:
        assert self._process
        return psutil.Process(self._process.pid).num_fds()


@contextlib.contextmanager
def pair_of_workers(stack: Mapping[str, str], logs: Path, **extra: str) -> Iterator[list[Worker]]:
    """Two workers, not started; whoever still runs at the end is ended."""
    pair = [Worker(stack, logs, number, **extra) for number in (1, 2)]
    yield pair
    for worker in pair:
        worker.end()


class Pipeline:
    """The neighbours of the workers: a producer, a consumer, and the simulator's admin pages."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.redis: Redis = redis_client(settings)
        self.s3 = S3Store(settings)
        self.simulator = httpx.AsyncClient(base_url=settings.gigachat_base_url.rpartition("/api")[0], trust_env=False)

    async def upload(self, tenant: str, source: str | bytes) -> Medium:
        """A demo picture by its name, or a picture's bytes (PNG)."""
        if isinstance(source, bytes):
            return await upload(self.s3, tenant, source, "image/png")
        mime = "image/png" if source.endswith(".png") else "image/jpeg"
        return await upload(self.s3, tenant, PICTURES / source, mime)

    async def publish(self, tenant: str, post: str, media: Sequence[Medium], trace: str = "") -> str:
        event = uploaded_event(tenant, post, media, trace or f"t-{post}")
        return await publish(self.redis, self.settings, event)

    async def newest(self) -> str:
        return await newest_announcement(self.redis, self.settings)

    async def announced(
        self, posts: Collection[str], since: str, seconds: float = DEADLINE_SECONDS
    ) -> dict[str, Announced]:
        """Wait for all; fails naming those that are missing."""
        found = await await_announcements(self.redis, self.settings, posts, since, time.monotonic() + seconds)
        assert not set(posts) - set(found), f"never announced: {sorted(set(posts) - set(found))}"
        return found

    async def all_announced(self, posts: Collection[str], since: str) -> dict[str, list[Announced]]:
        return await announcements_since(self.redis, self.settings, posts, since)

    async def idle(self) -> None:
        """Wait until nothing is under way; fails naming what is left."""
        left = await await_idle(self.redis, self.settings, time.monotonic() + DEADLINE_SECONDS)
        assert not left, f"not worked off: {left}"

    async def faults(self, *rules: dict[str, Any]) -> None:
        (await self.simulator.delete("/admin/faults")).raise_for_status()
        if rules:
            (await self.simulator.post("/admin/faults", json=list(rules))).raise_for_status()

    async def billed(self, tenant_prefix: str) -> list[dict[str, Any]]:
        """The bill's entries of posts whose trace id starts with `t-<prefix>`: the session id is the trace id."""
        bill = (await self.simulator.get("/admin/bill")).json()
        return [
            entry
            for client in bill.values()
            for entry in client["entries"]
            if str(entry["session_id"]).startswith(f"t-{tenant_prefix}") and entry["billed"]
        ]

    async def budget(self, worker: Worker, tenant: str) -> dict[str, Any]:
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{worker.url}/api/v1/budget/{tenant}")
        answer.raise_for_status()
        body: dict[str, Any] = answer.json()
        return body


@contextlib.asynccontextmanager
async def pipeline(settings: Settings) -> AsyncIterator[Pipeline]:
    opened = Pipeline(settings)
    await opened.s3.open()
    await opened.s3.ensure_bucket()
    try:
        yield opened
    finally:
        with contextlib.suppress(httpx.HTTPError):
            await opened.faults()
        await opened.s3.close()
        await opened.redis.aclose()
        await opened.simulator.aclose()


def unique(prefix: str) -> str:
    return f"{prefix}-{uuid4().hex[:8]}"


def picture() -> bytes:
    """A picture that was never seen before. It looks like a photo, on which the simulator spends no OCR."""
    image = ImageOps.colorize(Image.radial_gradient("L").resize((128, 96)), _shade(0), _shade(175))
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue() + uuid4().bytes  # decoders stop at the end of the picture


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _shade(darkest: int) -> tuple[int, int, int]:
    return random.randrange(darkest, darkest + 80), random.randrange(darkest, darkest + 80), random.randrange(80)
