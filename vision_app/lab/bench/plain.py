"""Runs the plain worker of `plain_worker.py` as a process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from vision_app.lab.soak.workers import WorkerLost
from vision_app.settings import Settings
from vision_app.stack.process import spawn

from .measure import Runner
from .plain_worker import GROUP

PLAIN = (sys.executable, "-u", "-m", "vision_app.lab.bench.plain_worker")
POLL_SECONDS = 0.05


@asynccontextmanager
async def plain_worker(logs: Path, environment: Mapping[str, str], at_once: int) -> AsyncIterator[Runner]:
    """A plain worker that takes `at_once` posts at once. Raises WorkerLost."""
    async with child([*PLAIN, str(at_once)], environment, logs / f"plain-{at_once}.log", "the plain worker") as process:
        yield process


@asynccontextmanager
async def child(command: Sequence[str], environment: Mapping[str, str], log: Path, name: str) -> AsyncIterator[Runner]:
    """A program that writes `ready` when it is, ended by SIGTERM afterwards. Raises WorkerLost."""
    await asyncio.to_thread(log.unlink, missing_ok=True)  # an earlier one has said `ready` there
    process = await spawn(list(command), {**os.environ, **environment}, log, signal.SIGTERM)
    try:
        while b"ready" not in await asyncio.to_thread(log.read_bytes):
            if process.returncode is not None:
                raise WorkerLost(f"{name} ended; see {log}")
            await asyncio.sleep(POLL_SECONDS)
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def read_from_now(redis: Redis, settings: Settings, group: str = GROUP) -> None:
    """Let a group begin with the next entry of the input stream: earlier ones were for another worker."""
    stream = settings.input_streams[0]
    try:
        await redis.xgroup_create(stream, group, id="$", mkstream=True)
    except ResponseError as fault:
        if "BUSYGROUP" not in str(fault):
            raise
        await redis.xgroup_setid(stream, group, id="$")
