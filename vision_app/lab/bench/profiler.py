"""Samples the stacks of a running worker with py-spy, from outside: who holds the interpreter, and for how long.

The stacks are recorded in py-spy's raw format. Its flame graphs leave out each frame that is narrower than a thousandth
of all samples, so its time would count for its caller; most samples of a busy worker end in such frames.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import psutil

from vision_app.stack.errors import StackError

from .profile_parts import Profile, count_parts

RATE = 500
"""Samples a second."""
STARTED = b"Sampling process"
"""In the line that py-spy writes when it begins to sample."""
START_SECONDS, END_SECONDS = 60.0, 60.0
SUFFIX = ".collapsedstack.txt"
"""By which speedscope knows the format."""


def profiler_program() -> str:
    """The path of py-spy. Raises StackError where it is not installed."""
    found = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if found is None:
        raise StackError("--profile needs py-spy: install the packages of requirements.lock, as `make test` does")
    return found


@dataclass(frozen=True)
class Profiler:
    """Writes a file of stacks for each measurement into `folder`; without a folder it does nothing.

    `found`: the profiles so far, of all groups. `group`: the beginning of their names, and a folder below `folder`.
    """

    folder: Path | None = None
    found: list[Profile] = field(default_factory=list)
    group: str = ""

    def of(self, group: str) -> Profiler:
        """The same, for measurements of this group."""
        return replace(self, group=group)

    @asynccontextmanager
    async def profiled(self, name: str, pid: int | None, posts: int = 0) -> AsyncIterator[None]:
        """Sample the process during the block. `posts`: how many it works on, or 0 if others share the work.

        Raises StackError when py-spy fails.
        """
        if self.folder is None or pid is None:
            yield
            return
        title = f"{self.group}: {name}" if self.group else name
        file = self.folder / self.group / f"{name.replace(' ', '-')}{SUFFIX}"
        file.parent.mkdir(parents=True, exist_ok=True)
        busy = _own_cpu_ms(pid)
        async with _recorded(pid, file):
            yield
        ended = _own_cpu_ms(pid)
        cpu_ms = 0.0 if busy is None or ended is None else ended - busy
        samples = await asyncio.to_thread(_count, file)
        self.found.append(Profile(title, samples, cpu_ms, posts))


@asynccontextmanager
async def _recorded(pid: int, file: Path) -> AsyncIterator[None]:
    """Record from the first moment of the block to its last. Raises StackError when py-spy does not start or fails."""
    command = ["record", "--pid", str(pid), "--rate", str(RATE), "--threads", "--gil", "--format", "raw"]
    process = await asyncio.create_subprocess_exec(
        profiler_program(), *command, "--output", str(file), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said, started = list[bytes](), asyncio.Event()
    lines = cast("asyncio.StreamReader", process.stdout)  # a pipe was asked for
    reading = asyncio.create_task(_read(lines, said, started))
    try:
        async with asyncio.timeout(START_SECONDS):
            await started.wait()
        if not any(STARTED in line for line in said):
            raise _failure(await process.wait(), said)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # it ended with the process that it sampled
            process.send_signal(signal.SIGINT)
        async with asyncio.timeout(END_SECONDS):
            await reading
            code = await process.wait()
    if code:
        raise _failure(code, said)


async def _read(lines: asyncio.StreamReader, said: list[bytes], started: asyncio.Event) -> None:
    """Collect the lines of py-spy. Sets `started` when it samples, or has ended."""
    async for line in lines:
        said.append(line)
        if STARTED in line:
            started.set()
    started.set()


def _failure(code: int, said: Sequence[bytes]) -> StackError:
    lines = [line.strip() for line in b"".join(said).decode("utf-8", "replace").splitlines() if line.strip()]
    return StackError(
        f"py-spy ended with exit code {code}: {' '.join(lines[:3])}. If it may not read other processes, run as root, "
        "set kernel.yama.ptrace_scope=0, or give the container the capability SYS_PTRACE; or leave out --profile"
    )


def _count(file: Path) -> dict[str, int]:
    with file.open(encoding="utf-8", errors="replace") as lines:
        return dict(count_parts(lines))


def _own_cpu_ms(pid: int) -> float | None:
    """The processor time so far of the process without its children, or None if it has ended."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return None
    return (times.user + times.system) * 1000
