"""The event loop that the worker's process gets."""

from __future__ import annotations

import subprocess
import sys

import pytest

LOOP = "import asyncio; print(type(asyncio.new_event_loop()).__module__)"
USE = (
    "from vision_app.streams.event_loop import use_event_loop as u; "
    "from vision_app.settings import load_settings as l; "
)
NO_UVLOOP = "import sys; sys.modules['uvloop'] = None; "


def run(code: str, kind: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the policy is the whole process's."""
    use = f"{USE}u(l(vision_event_loop='{kind}')); "
    return subprocess.run([sys.executable, "-c", code.format(use=use)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("kind", "module"), [("auto", "uvloop"), ("uvloop", "uvloop"), ("asyncio", "asyncio")])
def test_the_worker_gets_the_loop_that_is_asked_for(kind: str, module: str) -> None:
    assert run("{use}" + LOOP, kind).stdout.startswith(module)


def test_without_uvloop_the_worker_takes_pythons_own() -> None:
    assert run(NO_UVLOOP + "{use}" + LOOP, "auto").stdout.startswith("asyncio")


def test_a_demanded_uvloop_that_is_missing_is_named() -> None:
    ended = run(NO_UVLOOP + "{use}", "uvloop")
    assert ended.returncode != 0
    assert "VISION_EVENT_LOOP: uvloop cannot be imported" in ended.stderr
    assert "install it, or set asyncio" in ended.stderr


LOST = """
import asyncio

async def main():
    for _ in range(200):  # each ends before, while or after its input is written
        child = await asyncio.create_subprocess_exec("true", stdin=asyncio.subprocess.PIPE)
        await child.communicate(b"x" * 100_000)
    server = await asyncio.start_server(lambda reader, writer: writer.transport.abort(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        await reader.read()
    except ConnectionResetError:
        pass
    for _ in range(10):
        writer.write(b"x")
        writer.writelines([b"x", b"y"])
    try:
        await writer.drain()
    except ConnectionResetError:
        print("lost")

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["uvloop", "asyncio"])
def test_a_write_to_a_lost_connection_shows_at_drain_with_either_loop(kind: str) -> None:
    ended = run("{use}" + "exec(" + repr(LOST).replace("{", "{{").replace("}", "}}") + ")", kind)
    assert (ended.returncode, ended.stdout) == (0, "lost\n"), ended.stderr


def test_other_errors_of_a_write_are_raised() -> None:
    code = """
import asyncio
async def main():
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
    writer.write_eof()
    try:
        writer.write(b"x")
    except RuntimeError as fault:
        print(fault)
asyncio.run(main())
"""
    ended = run("{use}" + "exec(" + repr(code) + ")", "uvloop")
    assert "write_eof" in ended.stdout, ended.stderr
