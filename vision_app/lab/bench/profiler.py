"""Flame graphs of a running worker, taken by py-spy from outside: who holds the interpreter, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from vision_app.stack.errors import StackError

RATE = 500
"""Samples a second."""
END_SECONDS = 60.0


def profiler_program() -> str:
    """The path of py-spy. Raises StackError where it is not installed."""
    found = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if found is None:
        raise StackError("--profile needs py-spy: install the packages of requirements.lock, as `make test` does")
    return found


@asynccontextmanager
async def profiled(pid: int | None, target: Path | None) -> AsyncIterator[None]:
    """Sample the process during the block and write its flame graph to `target` (SVG). Without a target: nothing."""
    if target is None or pid is None:
        yield
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    command = ["record", "--pid", str(pid), "--rate", str(RATE), "--threads", "--gil", "--output", str(target)]
    process = await asyncio.create_subprocess_exec(
        profiler_program(), *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        async with asyncio.timeout(END_SECONDS):
            await process.wait()
