"""`vision status` tells what each worker waits for: a service that answers no more still has its process."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from vision_app.cli import stack
from vision_app.stack import checks
from vision_app.stack.home import Home
from vision_app.stack.process import Identity
from vision_app.stack.state import OUTDATED_SECONDS, Condition, ServiceState, StackState, write_state

STALL = {
    "stage": "budget",
    "place": "vision.budget-3-7",
    "since": "2026-11-26T12:00:00+00:00",
    "reason": "it waits for nothing known",
    "remedy": "restart the worker",
}


@contextlib.contextmanager
def readiness(answer: dict[str, Any] | None) -> Iterator[str]:
    """The URL of a worker whose /readyz gives this answer; None: nothing listens there."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        if answer is None:
            server.server_close()
            yield url
            return
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield url
        server.shutdown()


@pytest.mark.parametrize(
    ("answer", "told", "code"),
    [
        ({"status": "ready", "waiting_for": {}, "stalls": []}, "worker-1: ready, and nothing stands still", 0),
        (
            {"status": "ready", "waiting_for": {"kafka": "no answer for 7 s"}},
            "it waits for kafka (no answer for 7 s)",
            0,
        ),
        ({"status": "not_ready", "stalls": [STALL]}, "budget at vision.budget-3-7 has stood still since 2026-11-26", 1),
        (None, "does not answer at {url}; `vision logs worker-1`", 1),
    ],
)
def test_status_has_a_line_for_each_worker(tmp_path: Path, answer: dict[str, Any] | None, told: str, code: int) -> None:
    with readiness(answer) as url:
        worker = ServiceState(name="worker-1", condition=Condition.READY, is_worker=True, url=url)
        write_state(Home(tmp_path), StackState(supervisor=Identity.of(os.getpid()), services=[worker]))
        shown = CliRunner().invoke(stack.status, env={"COLUMNS": "300", "VISION_HOME": str(tmp_path)})
    assert told.format(url=url) in " ".join(shown.output.split())
    assert shown.exit_code == code


@pytest.mark.parametrize(
    ("answer", "told", "code"),
    [
        ({"status": "ready", "waiting_for": {}}, "which `vision up` did not start here, is ready", 0),
        ({"status": "not_ready", "waiting_for": {}, "stalls": [STALL]}, "has stood still since", 1),
        (None, "Nothing is running", 1),
    ],
)
def test_a_worker_in_a_container_or_started_by_hand_is_seen(
    monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any] | None, told: str, code: int, tmp_path: Path
) -> None:
    monkeypatch.setenv("VISION_HOME", str(tmp_path))
    with readiness(answer) as url:
        for variable in ("VISION_API_PORT", "METRICS_PORT"):
            monkeypatch.setenv(variable, url.rpartition(":")[2])
        shown = CliRunner().invoke(stack.status, env={"COLUMNS": "300"})
        told_scripts = json.loads(CliRunner().invoke(stack.status, ["--json"]).output)
        logs = CliRunner().invoke(stack.logs, ["worker"])
    assert told in " ".join(shown.output.split())
    assert shown.exit_code == code
    assert (told_scripts["running"], told_scripts["ready"]) == (answer is not None, code == 0)
    assert ("docker compose logs worker" in str(logs.exception)) is (answer is not None)


def test_a_report_that_is_no_longer_written_is_not_taken_for_the_present(tmp_path: Path) -> None:
    """A full disk, or a frozen supervisor: its last words may be that all is ready."""
    ended = Identity(pid=os.getpid(), created_at=1.0)
    services = [
        ServiceState(name="kafka", condition=Condition.READY, process=ended),
        ServiceState(name="redis", condition=Condition.READY, process=Identity.of(os.getpid())),
    ]
    written = time.time() - OUTDATED_SECONDS - 60
    state = StackState(supervisor=Identity.of(os.getpid()), services=services, written_at=written)
    write_state(Home(tmp_path), state)
    shown = CliRunner().invoke(stack.status, env={"COLUMNS": "300", "VISION_HOME": str(tmp_path)})
    text = " ".join(shown.output.split())
    assert "kafka gone" in text
    assert "redis ready ?" in text
    assert "the supervisor (pid" in text
    assert "Free disk space" in text
    assert shown.exit_code == 1
    told = json.loads(CliRunner().invoke(stack.status, ["--json"], env={"VISION_HOME": str(tmp_path)}).output)
    assert told["ready"] is False
    assert told["state_age_seconds"] > OUTDATED_SECONDS
    (finding,) = checks.supervisor(Home(tmp_path), state)
    assert finding.verdict is checks.Level.FAILED
    assert "vision logs supervisor" in finding.detail
    assert checks.supervisor(Home(tmp_path), None) == []
