"""Child processes that decode pictures, so that hostile bytes can harm only their own process.

A few are kept running, because starting one takes 0.2 s. Each is replaced after a number of pictures, and at once when
a picture killed it or used up its memory or time. Replies of a child are checked like any untrusted input. Not here:
decoding itself (`decoding.py`) and the limits that a child sets itself (`decoder_child.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson
import PIL
import puremagic
import structlog

from vision_app.providers.base import Picture
from vision_app.providers.decoder_child import HEADER
from vision_app.providers.decoding import MAX_SENT_IMAGE_BYTES, REASONS, SENT_TYPES, DecodeRequest, UnusablePicture
from vision_app.settings import Settings
from vision_app.telemetry import metrics
from vision_app.telemetry.watch import waiting_for

log = structlog.get_logger(__name__)

PICTURES_PER_CHILD = 500  # bounds memory that a decoder's library leaks
START_SECONDS = 30.0
MAX_SAID_BYTES = 8 * 1024
MAX_TEXT_BYTES = 120_000_000  # a text document grows at most threefold when it becomes UTF-8
DEADLINE_FACTOR = 2  # of time to processor time: the machine has other work,
DEADLINE_SLACK_SECONDS = 15  # and sometimes very much of it
TRIES = 2  # a child may be killed from outside; a picture that ends two children is the cause

PROGRAM = "vision_app.providers.decoder_child"

Reply = tuple[dict[str, Any], bytes]


class DecodersUnavailable(Exception):
    """No process for decoding pictures can be started. See the log; free memory or processes. It is tried again."""


class ChildDied(Exception):
    """The child ended in the middle of a picture. `reason` is the cause as far as the exit status says."""

    def __init__(self, status: int | None) -> None:
        super().__init__(f"exit status {status}")
        self.status = status

    @property
    def out_of_time(self) -> bool:
        return self.status == -signal.SIGXCPU


@dataclass(frozen=True)
class DecoderLimits:
    """Limits of a child for one picture: address space (also for its whole life), processor time, and time.

    `pictures`: after so many the child is replaced.
    """

    memory_bytes: int
    cpu_seconds: int
    deadline_seconds: float
    pictures: int = PICTURES_PER_CHILD


class Child:
    """One process. It decodes one picture at a time. After any exception except UnusablePicture do not use it.

    A thread reads and writes the pipes and ends with the process. asyncio's own subprocesses report the end only when
    every pipe was read to its end, which may never happen after a process was killed.
    """

    def __init__(self, limits: DecoderLimits, threads: Executor, program: str = PROGRAM) -> None:
        """Start the process. Call it in the main thread, because the process ends with that thread. Raises OSError."""
        bounds = (os.getpid(), limits.memory_bytes, limits.cpu_seconds)
        self._limits, self._threads, self._program = limits, threads, program
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-P", "-m", program, *map(str, bounds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
        )
        self.pictures = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def usable(self) -> bool:
        return self._process.poll() is None and self.pictures < self._limits.pictures

    async def ready(self) -> None:
        """Wait until the process accepts requests. Raises DecodersUnavailable after ending it."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(START_SECONDS):
                said, _ = await loop.run_in_executor(self._threads, self._reply)
        except (TimeoutError, ChildDied) as fault:
            await self.kill()
            raise DecodersUnavailable(
                f"{self._program} does not start: {fault!r}; run it with python -m to see why"
            ) from fault
        except BaseException:
            await self.kill()
            raise
        if said.get("not_limited"):
            log.warning("decoder_limits_missing", **said)

    async def decode(self, content: bytes, declared_mime: str, wish: DecodeRequest) -> Picture:
        """Have one picture decoded. Raises UnusablePicture, ChildDied, TimeoutError."""
        self.pictures += 1
        asked = orjson.dumps({"mime_type": declared_mime, "max_dim": wish.max_dim, "jpeg_quality": wish.jpeg_quality})
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._limits.deadline_seconds):
            said, encoded = await loop.run_in_executor(self._threads, self._ask, asked, content)
        return _picture(said, encoded, content)

    async def kill(self) -> None:
        """End the process at once. It has no data that could be lost."""
        self._process.kill()
        await asyncio.shield(asyncio.to_thread(self._buried))

    def _ask(self, asked: bytes, content: bytes) -> Reply:
        pipe = self._process.stdin
        assert pipe is not None  # noqa: S101 - it was started with a pipe
        with contextlib.suppress(BrokenPipeError):  # the missing reply shows why the child ended
            pipe.write(HEADER.pack(len(asked), len(content)) + asked)
            pipe.write(content)
            pipe.flush()
        return self._reply()

    def _reply(self) -> Reply:
        pipe = self._process.stdout
        assert pipe is not None  # noqa: S101 - the pipes were asked for
        try:
            said, length = HEADER.unpack(_whole(pipe, HEADER.size))
            if said > MAX_SAID_BYTES or length > MAX_TEXT_BYTES:
                raise ValueError("a reply of impossible length")
            return dict(orjson.loads(_whole(pipe, said))), _whole(pipe, length)
        except EOFError:
            raise ChildDied(self._process.wait()) from None
        except (TypeError, ValueError) as fault:  # the child does not follow the protocol any more
            log.error("decoder_protocol_error", error=repr(fault))
            raise ChildDied(None) from fault

    def _buried(self) -> None:
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


class Decoders:
    """The pool of children. `prepare` waits for a free child; no other part of the worker waits for a picture.

    `children`: by default VISION_DECODERS; each uses a core while it works.
    `deadline_seconds`: the longest time for one picture; by default it follows from VISION_DECODING_TIMEOUT. `start`
    starts a child.
    """

    def __init__(
        self,
        settings: Settings,
        children: int = 0,
        *,
        deadline_seconds: float | None = None,
        pictures_per_child: int = PICTURES_PER_CHILD,
        tries: int = TRIES,
        start: Callable[[DecoderLimits, Executor], Child] = Child,
    ) -> None:
        children = children or settings.vision_decoders
        scaled = settings.vision_preprocess_enabled
        self._wish = DecodeRequest(
            max_dim=settings.vision_preprocess_max_dim if scaled else None,
            jpeg_quality=settings.vision_preprocess_jpeg_quality,
        )
        cpu_seconds = settings.vision_decoding_timeout
        self._limits = DecoderLimits(
            memory_bytes=settings.vision_decoding_memory_mb * 1024**2,
            cpu_seconds=cpu_seconds,
            deadline_seconds=deadline_seconds or cpu_seconds * DEADLINE_FACTOR + DEADLINE_SLACK_SECONDS,
            pictures=pictures_per_child,
        )
        self._tries, self._start = tries, start
        self._free = asyncio.Semaphore(children)
        self._passed_at = time.monotonic()  # when a picture last got its turn
        self._children = children
        self._threads = ThreadPoolExecutor(children, thread_name_prefix="decoders")
        self._closed = False
        self._idle: list[Child] = []
        self._busy: set[Child] = set()

    @property
    def _passing_seconds(self) -> float:
        """If no picture got its turn for longer than this, the waiting pictures count as stalled."""
        return START_SECONDS + self._tries * self._limits.deadline_seconds

    async def open(self) -> None:
        """Start the children. Raises DecodersUnavailable: no picture can be looked at without them."""
        started = await asyncio.gather(*(self._started() for _ in range(self._children)), return_exceptions=True)
        self._idle += [child for child in started if isinstance(child, Child)]  # so that `close` ends them in any case
        for fault in started:
            if isinstance(fault, BaseException):
                raise fault

    async def close(self) -> None:
        """End the children, also busy ones. No new one is started."""
        self._closed = True
        children, self._idle = [*self._idle, *self._busy], []
        await asyncio.gather(*(child.kill() for child in children))
        self._threads.shutdown()

    @property
    def pids(self) -> list[int]:
        return [child.pid for child in (*self._idle, *self._busy)]

    async def rest(self) -> None:
        """End the children that have nothing to do. New ones are started when needed."""
        while self._idle:
            await self._idle.pop().kill()

    async def prepare(self, content: bytes, declared_mime: str) -> Picture:
        """Check, turn upright, scale and encode again. Raises UnusablePicture, DecodersUnavailable."""
        started = time.perf_counter()
        result = "ok"
        try:
            async with AsyncExitStack() as turn:
                with waiting_for("a decoder", lambda: time.monotonic() - self._passed_at < self._passing_seconds):
                    await turn.enter_async_context(self._free)
                self._passed_at = time.monotonic()
                return await self._decoded(content, declared_mime, self._wish)
        except UnusablePicture as fault:
            result = fault.reason
            log.info("picture_unusable", reason=fault.reason, declared_mime=declared_mime, details=fault.details)
            raise
        except BaseException:
            result = "interrupted"
            raise
        finally:
            metrics.PICTURES_DECODED.labels(result=result).inc()
            metrics.DECODING_DURATION.observe(time.perf_counter() - started)

    async def render(self, content: bytes, declared_mime: str, wish: DecodeRequest) -> Picture:
        """Encode for people, in another form than for the provider. Not counted as a picture of the pipeline.

        Raises UnusablePicture, DecodersUnavailable.
        """
        async with self._free:
            return await self._decoded(content, declared_mime, wish)

    async def _decoded(self, content: bytes, declared_mime: str, wish: DecodeRequest) -> Picture:
        for attempt in range(1, self._tries + 1):
            try:
                return await self._by_a_child(content, declared_mime, wish)
            except ChildDied as fault:
                if fault.out_of_time:
                    raise self._too_slow() from fault
                if attempt == self._tries:
                    details = {"exit_status": fault.status, "attempts": attempt}
                    raise UnusablePicture("decoding_crashed", details) from fault
            except TimeoutError as fault:
                raise self._too_slow() from fault
        raise AssertionError("unreachable")

    def _too_slow(self) -> UnusablePicture:
        return UnusablePicture("decoding_timeout", {"limit_cpu_seconds": self._limits.cpu_seconds})

    async def _by_a_child(self, content: bytes, declared_mime: str, wish: DecodeRequest) -> Picture:
        """One attempt with one child. The child is used again only if it is still usable."""
        child = await self._take()
        self._busy.add(child)
        cause = "interrupted"
        try:
            picture = await child.decode(content, declared_mime, wish)
            cause = ""
            return picture
        except UnusablePicture as fault:
            cause = "memory" if fault.reason == "decoding_memory" else ""
            raise
        except ChildDied as fault:
            cause = "timeout" if fault.out_of_time else "died"
            log.warning("decoder_died", exit_status=fault.status, pid=child.pid)
            raise
        except TimeoutError:
            cause = "timeout"
            raise
        finally:
            self._busy.discard(child)
            if not cause and child.usable:
                self._idle.append(child)
            else:
                metrics.DECODERS_REPLACED.labels(cause=cause or "used_up").inc()
                await child.kill()

    async def _take(self) -> Child:
        while self._idle:
            child = self._idle.pop()
            if child.usable:
                return child
            metrics.DECODERS_REPLACED.labels(cause="died").inc()
            await child.kill()
        return await self._started()

    async def _started(self) -> Child:
        if self._closed:
            raise DecodersUnavailable("the worker stops; the picture is decoded after its start")
        try:
            child = self._start(self._limits, self._threads)
        except OSError as fault:
            raise DecodersUnavailable(f"{PROGRAM} does not start: {fault}; free memory or processes") from fault
        await child.ready()
        return child


def _whole(pipe: IO[bytes], length: int) -> bytes:
    content = pipe.read(length)
    if len(content) < length:
        raise EOFError
    return content


def _environment() -> dict[str, str]:
    """The environment of a child: only where the code is; no passwords, no addresses."""
    folders = [Path(__file__).parents[2], Path(PIL.__file__).parents[1], Path(puremagic.__file__).parents[1]]
    return {
        "PATH": "/usr/bin:/bin",
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(map(str, folders))),
        "PYTHONDONTWRITEBYTECODE": "1",
        "MALLOC_ARENA_MAX": "1",
    }


def _picture(said: dict[str, Any], encoded: bytes, content: bytes) -> Picture:
    """The child's reply, checked for plausibility. Raises UnusablePicture, ChildDied."""
    if (reason := said.get("reason")) is not None:
        if reason not in REASONS:
            raise ChildDied(None)
        details = said.get("details")
        raise UnusablePicture(reason, details if isinstance(details, dict) else {})
    mime, width, height, same = (said.get(name) for name in ("mime_type", "width", "height", "same"))
    sent = content if same else encoded
    image = str(mime).startswith("image/")
    sound = mime in SENT_TYPES and isinstance(width, int) and isinstance(height, int) and bool(sent)
    if not sound or (image and (same or len(sent) > MAX_SENT_IMAGE_BYTES)):
        raise ChildDied(None)
    return Picture(sent, str(mime), int(str(width)), int(str(height)))
