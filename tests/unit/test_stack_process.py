"""Processes are recognised by number and start time, end with their supervisor, and leave nothing when killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from vision_app.stack.home import Home
from vision_app.stack.leftovers import end_leftovers
from vision_app.stack.process import Identity, end, kill_tree, tied_to_this_process
from vision_app.stack.state import ServiceState, StackState, read_state, write_state

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
PARENT_OF_SLEEP = f"""
import subprocess, sys, time
from vision_app.stack.process import tied_to_this_process
import signal
child = subprocess.Popen([*tied_to_this_process(signal.SIGTERM), *{SLEEP!r}])
print(child.pid, flush=True)
time.sleep(60)
"""
GONE = Identity(pid=2**22 - 1, created_at=0.0)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(SLEEP)
    yield process
    process.kill()
    process.wait()


def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def test_a_process_is_found_by_its_identity(sleeper: subprocess.Popen[bytes]) -> None:
    identity = Identity.of(sleeper.pid)
    assert identity.process() is not None
    sleeper.kill()
    eventually(lambda: identity.process() is None)  # a zombie until its parent waits for it


def test_another_process_with_the_same_number_is_not_ours(sleeper: subprocess.Popen[bytes]) -> None:
    earlier = Identity(pid=sleeper.pid, created_at=Identity.of(sleeper.pid).created_at - 3600)
    assert earlier.process() is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_a_child_dies_with_a_parent_that_was_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT_OF_SLEEP], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = Identity.of(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    eventually(lambda: child.process() is None)


def test_the_wrapper_runs_the_command_under_its_own_number() -> None:
    command = [*tied_to_this_process(signal.SIGTERM), sys.executable, "-c", "import os; print(os.getpid())"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    output, _ = process.communicate(timeout=30)
    assert int(output) == process.pid


def test_killing_a_process_takes_its_descendants_along() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT_OF_SLEEP], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = Identity.of(int(parent.stdout.readline()))
    kill_tree(psutil.Process(parent.pid))
    parent.wait()
    parent.stdout.close()
    eventually(lambda: child.process() is None)


def test_a_process_that_ignores_its_signal_is_killed() -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    process = psutil.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
    process.stdout.readline()
    end([(process, signal.SIGTERM, 0.2)])
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()


def test_leftover_processes_are_ended_and_foreign_ones_are_not(
    sleeper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    ours = subprocess.Popen(SLEEP)
    stranger = Identity(pid=sleeper.pid, created_at=1.0)  # the number is in use again
    services = [
        ServiceState(name="redis", process=Identity.of(ours.pid)),
        ServiceState(name="kafka", process=stranger),
        ServiceState(name="s3", process=GONE),
        ServiceState(name="postgres"),
    ]
    home = Home(tmp_path)
    write_state(home, StackState(supervisor=GONE, services=services))
    assert end_leftovers(home) == ["redis"]
    assert not psutil.pid_exists(ours.pid)
    ours.wait()
    assert sleeper.poll() is None
    assert end_leftovers(home) == []


def test_a_state_of_another_version_counts_as_none(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.state.write_text('{"supervisor": "something else"}')
    assert read_state(home) is None


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    home, state = Home(tmp_path), StackState(supervisor=Identity.of(os.getpid()), gigachat="simulated")
    write_state(home, state)
    assert read_state(home) == state
