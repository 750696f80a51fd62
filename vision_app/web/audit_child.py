"""Runs the child process that takes an account, under limits of time and of output. It ends with the worker.

What it prints is checked like any untrusted input.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from vision_app.audit.summary import AccountSummary, ChildReply
from vision_app.settings import Settings
from vision_app.stack.process import tied_to_this_process
from vision_app.texts import say

PROGRAM = "vision_app.audit.child"
NICE = 10
"""The worker's own work goes first, also while the process starts."""
MAX_REPLY_BYTES = 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024
ERROR_CHARS = 300
CHUNK_BYTES = 65_536
BURY_SECONDS = 5.0


@dataclass(frozen=True)
class AuditScope:
    """`tenant_id` "": all tenants; `since` None: all data that is kept."""

    tenant_id: str = ""
    since: datetime | None = None


class AuditFailed(Exception):
    """There is no summary. The message says why and what to do next. `late`: it took longer than it may."""

    def __init__(self, text: str, *, late: bool = False) -> None:
        super().__init__(text)
        self.late = late


class AuditChild:
    """One process for one account. After `summary`, however it ends, no process is left."""

    def __init__(self, process: asyncio.subprocess.Process, seconds: float) -> None:
        self._process, self._seconds = process, seconds
        self._too_much = False

    @classmethod
    async def start(cls, settings: Settings, scope: AuditScope, program: str = PROGRAM) -> AuditChild:
        """Start the process. Call it in the main thread, because the process ends with that thread. Raises OSError."""
        memory_bytes = settings.vision_audit_memory_mb * 1024**2
        since_ms = 0 if scope.since is None else max(0, round(scope.since.timestamp() * 1000))
        asked = (str(memory_bytes), str(since_ms), *([scope.tenant_id] if scope.tenant_id else []))
        process = await asyncio.create_subprocess_exec(
            *(*tied_to_this_process(signal.SIGKILL), sys.executable, "-m", program, *asked),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            os.setpriority(os.PRIO_PROCESS, process.pid, os.getpriority(os.PRIO_PROCESS, 0) + NICE)
        return cls(process, settings.vision_audit_timeout_seconds)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def summary(self) -> AccountSummary:
        """Wait for the summary. Raises AuditFailed."""
        try:
            async with asyncio.timeout(self._seconds):
                out, err, status = await asyncio.gather(self._reply(), self._errors(), self._process.wait())
        except TimeoutError as fault:
            raise AuditFailed(_too_late(self._seconds), late=True) from fault
        finally:
            await asyncio.shield(self._end())
        if self._too_much:
            raise AuditFailed(_no_summary(say("it printed more than {most} bytes", most=MAX_REPLY_BYTES)))
        return _summary(out, err, status)

    async def _reply(self) -> bytes:
        """What it prints. If that is too much, the process is ended."""
        kept = bytearray()
        async for chunk in _chunks(self._process.stdout):
            kept += chunk
            if len(kept) > MAX_REPLY_BYTES and not self._too_much:
                self._too_much = True
                self._process.kill()
            del kept[MAX_REPLY_BYTES:]
        return bytes(kept)

    async def _errors(self) -> bytes:
        """The end of what it prints as errors."""
        kept = bytearray()
        async for chunk in _chunks(self._process.stderr):
            kept += chunk
            del kept[:-MAX_ERROR_BYTES]
        return bytes(kept)

    async def _end(self) -> None:
        """End the process if it runs, and read its pipes to their end: only then asyncio tells that it has ended."""
        if self._process.returncode is not None:
            return
        self._process.kill()
        async with asyncio.timeout(BURY_SECONDS):
            await asyncio.gather(self._reply(), self._errors(), self._process.wait())


async def _chunks(stream: asyncio.StreamReader | None) -> AsyncIterator[bytes]:
    while stream is not None and (chunk := await stream.read(CHUNK_BYTES)):
        yield chunk


def _summary(out: bytes, err: bytes, status: int) -> AccountSummary:
    """The summary in what the process printed. Raises AuditFailed."""
    if status < 0:
        raise AuditFailed(
            say(
                "its process was ended by signal {number} ({name}); if memory was short, ask for a shorter time with "
                "`since`, then start it again",
                number=-status,
                name=signal.strsignal(-status) or "",
            )
        )
    if status != 0:
        raise AuditFailed(_no_summary(say("it ended with status {status}: {why}", status=status, why=_last_line(err))))
    try:
        reply = ChildReply.model_validate_json(out)
    except ValidationError as fault:
        raise AuditFailed(_no_summary(say("it printed something else: {why}", why=_last_line(out)))) from fault
    if reply.summary is None:
        raise AuditFailed(reply.failure or _no_summary(say("it printed nothing")))
    return reply.summary


def _no_summary(why: str) -> str:
    return say("the process that takes the account failed ({why}); run `vision audit` to see more", why=why)


def _too_late(seconds: float) -> str:
    return say(
        "it was not done after {seconds:.0f} s; ask for a shorter time with `since`, or raise "
        "VISION_AUDIT_TIMEOUT_SECONDS and restart the worker",
        seconds=seconds,
    )


def _last_line(told: bytes) -> str:
    lines = told.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:ERROR_CHARS] if lines else ""
