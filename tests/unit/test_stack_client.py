"""When a start counts as failed, by the state that the supervisor reports."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from vision_app.stack.client import live_state, wait_ready
from vision_app.stack.errors import StackError
from vision_app.stack.home import Home
from vision_app.stack.process import Identity
from vision_app.stack.state import Condition, ServiceState, StackState, write_state

READY = ServiceState(name="redis", condition=Condition.READY)


def told(home: Path, *services: ServiceState, alive: bool = True) -> Home:
    """A home whose supervisor is this process, or a process that has ended."""
    supervisor = Identity.of(os.getpid()) if alive else Identity(pid=os.getpid(), created_at=1.0)
    write_state(Home(home), StackState(supervisor=supervisor, services=list(services)))
    return Home(home)


def test_external_services_are_not_waited_for(tmp_path: Path) -> None:
    home = told(tmp_path, READY, ServiceState(name="kafka", condition=Condition.EXTERNAL))
    assert wait_ready(home, None).is_ready


def test_the_state_of_a_dead_supervisor_is_ignored(tmp_path: Path) -> None:
    home = told(tmp_path, READY, alive=False)
    assert live_state(home) is None
    with pytest.raises(StackError, match="the supervisor ended before everything was ready"):
        wait_ready(home, None)


def test_three_failures_in_a_row_end_the_wait_with_the_remedy(tmp_path: Path) -> None:
    broken = ServiceState(
        name="kafka", condition=Condition.BACKOFF, failures=3, last_error="No space left on device", log="kafka.log"
    )
    with pytest.raises(
        StackError, match=r"kafka does not start: No space left on device\. The disk is full.*\nLog: kaf"
    ):
        wait_ready(told(tmp_path, READY, broken), None)


def test_a_worker_that_never_gets_ready_ends_the_wait(tmp_path: Path) -> None:
    waiting = ServiceState(
        name="worker-1", is_worker=True, start_seconds=180, started_at=time.time() - 181, detail="GET /readyz says 503"
    )
    with pytest.raises(StackError, match=r"worker-1 is not ready after 180 s: GET /readyz says 503"):
        wait_ready(told(tmp_path, READY, waiting), None)


def test_the_end_of_the_time_names_what_is_missing(tmp_path: Path) -> None:
    starting = ServiceState(name="neo4j", detail="waiting for the Bolt port to open", log="neo4j.log")
    with pytest.raises(StackError, match=r"not everything is ready after 0 s.*\nneo4j: waiting for the Bolt port"):
        wait_ready(told(tmp_path, READY, starting), None, timeout=0.05)
