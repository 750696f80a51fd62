"""What `vision doctor` says of workers: ready, not ready, standing still, or not running."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vision_app.operations.health import Health, findings, health
from vision_app.settings import load_settings
from vision_app.stack.checks import Level

STALL = {
    "stage": "policy",
    "place": "posts.vision.uploaded-3-17",
    "since": "2026-11-26T10:00:00.5Z",
    "reason": "it waits for nothing known",
    "remedy": "vision dlq take posts.vision.uploaded-3-17 --reason TEXT --dry-run",
}


@pytest.mark.parametrize(
    ("answer", "verdict", "said"),
    [
        (None, Level.FAILED, "does not answer at http://127.0.0.1:8000; `vision logs worker-1`"),
        ({"status": "ready", "reason": None, "waiting_for": {}}, Level.OK, "nothing stands still"),
        (
            {"status": "ready", "reason": None, "waiting_for": {"s3": "no answer"}},
            Level.HINT,
            "waits for s3 (no answer)",
        ),
        ({"status": "not_ready", "reason": "starting", "waiting_for": {}}, Level.HINT, "not ready: starting"),
        (
            {"status": "not_ready", "reason": "stalled", "waiting_for": {}, "stalls": [STALL]},
            Level.FAILED,
            "policy at posts.vision.uploaded-3-17 has stood still since 2026-11-26T10:00:00Z: it waits for nothing "
            "known. Next: vision dlq take posts.vision.uploaded-3-17",
        ),
    ],
)
def test_a_finding_per_worker(answer: dict[str, Any] | None, verdict: Level, said: str) -> None:
    [finding] = findings([Health("worker-1", ["http://127.0.0.1:8000"], answer)])
    assert (finding.check, finding.verdict) == ("worker-1", verdict)
    assert said in finding.detail


def test_a_broken_process_of_several_is_a_failure_of_its_own() -> None:
    """Beside a stall of another process; one that is only not ready is a hint, as with one process."""
    broken = {"name": "w-2", "pid": None, "state": "down", "reason": "ended with exit code 7", "restarts": 3}
    starting = {"name": "w-3", "pid": 4, "state": "not_ready", "reason": "recovering the tables", "restarts": 0}
    answer: dict[str, Any] = {"status": "partly_ready", "reason": "partly ready: …", "waiting_for": {}}
    found = findings([Health("worker", ["http://a"], answer | {"processes": [starting, broken], "stalls": [STALL]})])
    assert [(one.check, one.verdict) for one in found] == [("w-2", Level.FAILED), ("worker", Level.FAILED)]
    assert "ended with exit code 7; started again so far: 3" in found[0].detail
    ready: dict[str, Any] = {
        "status": "ready",
        "reason": None,
        "waiting_for": {},
        "processes": [{"name": "w-1"}, {"name": "w-2"}],
    }
    [fine] = findings([Health("worker", ["http://a"], ready)])
    assert (fine.verdict, "2 processes: w-1, w-2" in fine.detail) == (Level.OK, True)
    [hint] = findings([Health("worker", ["http://a"], answer | {"processes": [starting]})])
    assert (hint.verdict, "partly ready" in hint.detail) == (Level.HINT, True)


def test_a_foreign_worker_is_not_called_ours() -> None:
    """Nothing runs here, and another folder's worker has the port. `doctor` must not say that ours is running."""
    answer: dict[str, Any] = {"status": "ready", "reason": None, "waiting_for": {}}
    [finding] = findings([Health("worker", ["http://127.0.0.1:8000"], answer, ours=False)])
    assert "http://127.0.0.1:8000, which `vision up` did not start here" in finding.detail


@pytest.mark.parametrize(
    ("worker", "hosts", "verdict", "said"),
    [
        (Health("worker", ["http://a"], None, ours=False), [], Level.FAILED, "none is connected to Kafka"),
        (Health("worker", ["http://a"], None, ours=False), None, Level.FAILED, "Kafka does not tell"),
        (
            Health("worker", ["http://a"], None, ours=False),
            ["10.0.0.6", "10.0.0.5", "10.0.0.5"],
            Level.HINT,
            "none answers at http://a, but 3 are connected to Kafka, from 10.0.0.5, 10.0.0.6",
        ),
        (Health("worker-1", ["http://a"], None, starting="waiting for kafka"), [], Level.HINT, "waiting for kafka"),
    ],
)
def test_without_an_answer_kafka_tells_whether_workers_run_elsewhere(
    worker: Health, hosts: list[str] | None, verdict: Level, said: str
) -> None:
    [finding] = findings([worker], hosts)
    assert finding.verdict is verdict
    assert said in finding.detail


async def test_without_a_stack_of_ours_the_worker_is_foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISION_HOME", str(tmp_path))
    [found] = await health(load_settings(vision_api_port=1, metrics_port=1, metrics_host="::1"))
    assert (found.ours, found.answer) == (False, None)
    assert list(found.urls) == ["http://127.0.0.1:1", "http://[::1]:1"]
