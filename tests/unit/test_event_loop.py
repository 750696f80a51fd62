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
