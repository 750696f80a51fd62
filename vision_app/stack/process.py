"""Starts processes that die with the supervisor, identifies them later, and ends them reliably."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import psutil
from pydantic import BaseModel

WRAPPER = Path(__file__).with_name("child.py")
CLOCK_SLACK_SECONDS = 2.0  # creation times are derived from the boot time, which the kernel adjusts a little


class Identity(BaseModel):
    """A pid together with the process' creation time: the pid alone may be reused by another process."""

    pid: int
    created_at: float  # seconds since the epoch

    @classmethod
    def of(cls, pid: int) -> Identity:
        """The identity of a running process. Raises psutil.NoSuchProcess when it has ended."""
        return cls(pid=pid, created_at=psutil.Process(pid).create_time())

    def process(self) -> psutil.Process | None:
        """The process, or None when it has ended, even if its pid was reused."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created_at) < CLOCK_SLACK_SECONDS
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


def tied_to_this_process(stop_signal: signal.Signals, user: str = "") -> list[str]:
    """The prefix of a command that gets `stop_signal` when this process ends (on Linux)."""
    return [sys.executable, "-I", "-S", str(WRAPPER), str(os.getpid()), str(int(stop_signal)), user, "--"]


async def spawn(
    command: list[str],
    environment: dict[str, str],
    log: Path | None,
    stop_signal: signal.Signals,
    user: str = "",
    own_session: bool = False,
) -> asyncio.subprocess.Process:
    """Start a command under the wrapper of `child.py`, its output appended to `log`; None: to this process' output.

    Must be called in the main thread: on Linux the child is signalled when the *thread* that started it ends.
    """
    started = partial(
        asyncio.create_subprocess_exec,
        *tied_to_this_process(stop_signal, user),
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        env=environment,
        start_new_session=own_session,
    )
    if log is None:
        return await started()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return await started(stdout=output, stderr=output)


def kill_tree(process: psutil.Process) -> None:
    """SIGKILL a process and all its descendants."""
    try:
        family = [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue


def end(processes: Iterable[tuple[psutil.Process, signal.Signals, float]]) -> None:
    """Send each process its signal, all at once; SIGKILL those that still run after their number of seconds."""
    signalled = []
    for process, stop_signal, seconds in processes:
        try:
            process.send_signal(stop_signal)
        except psutil.NoSuchProcess:
            continue
        signalled.append((process, seconds))
    for process, seconds in signalled:
        _, alive = psutil.wait_procs([process], timeout=seconds)
        for survivor in alive:
            kill_tree(survivor)
        psutil.wait_procs(alive, timeout=5)


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants; 0 when it has ended. Shared pages count in each of them."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    total = 0
    for member in family:
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total
