"""`vision status` tells what each worker waits for: a service that answers no more still has its process."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from vision_app.cli import stack
from vision_app.operations.health import Health
from vision_app.settings import Settings
from vision_app.stack.process import Identity
from vision_app.stack.state import Condition, ServiceState, StackState

STALL = {
    "stage": "budget",
    "place": "vision.budget-3-7",
    "since": "2026-11-26T12:00:00+00:00",
    "reason": "it waits for nothing known",
    "remedy": "restart the worker",
}


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
        (None, "does not answer at http://127.0.0.1:8000; `vision logs worker-1`", 1),
    ],
)
def test_status_has_a_line_for_each_worker(
    monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any] | None, told: str, code: int
) -> None:
    services = [ServiceState(name="worker-1", condition=Condition.READY, is_worker=True)]
    state = StackState(supervisor=Identity.of(os.getpid()), services=services)

    async def health(settings: Settings) -> list[Health]:
        return [Health("worker-1", ["http://127.0.0.1:8000"], answer)]

    monkeypatch.setattr("vision_app.stack.client.live_state", lambda home: state)
    monkeypatch.setattr(stack, "health", health)
    shown = CliRunner().invoke(stack.status, env={"COLUMNS": "300"})
    assert told in " ".join(shown.output.split())
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
    async def health(settings: Settings) -> list[Health]:
        return [Health("worker", ["http://127.0.0.1:8000"], answer, ours=False)]

    monkeypatch.setenv("VISION_HOME", str(tmp_path))
    monkeypatch.setattr(stack, "health", health)
    shown = CliRunner().invoke(stack.status, env={"COLUMNS": "300"})
    assert told in " ".join(shown.output.split())
    assert shown.exit_code == code
    told_scripts = json.loads(CliRunner().invoke(stack.status, ["--json"]).output)
    assert (told_scripts["running"], told_scripts["ready"]) == (answer is not None, code == 0)
    logs = CliRunner().invoke(stack.logs, ["worker"])
    assert ("docker compose logs worker" in str(logs.exception)) is (answer is not None)
