"""The supervisor and `vision status` show a worker's own reason, also while its API does not answer."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from vision_app.cli.stack_view import as_json
from vision_app.stack.home import Home
from vision_app.stack.instance import Instance
from vision_app.stack.process import Identity
from vision_app.stack.state import Condition, ServiceState, StackState
from vision_app.stack.worker import Worker

STALLED = "stalled: policy at posts.vision.uploaded-3-17 for 130 s; it waits for nothing known"
NOT_READY = httpx.Response(503, json={"trace_id": "x" * 400, "status": "not_ready", "reason": STALLED})
READY = httpx.Response(200, json={"status": "ready", "reason": None})


@pytest.mark.parametrize(
    ("api", "metrics", "said"),
    [
        (READY, READY, None),
        (NOT_READY, None, f"GET /readyz says 503: {STALLED}"),
        (None, NOT_READY, f"GET /readyz says 503: {STALLED}"),
        (None, READY, "the API to answer"),
        (None, None, "the API to answer"),
        (httpx.Response(503, text="Service Unavailable"), None, "GET /readyz says 503: Service Unavailable"),
    ],
)
async def test_what_a_worker_waits_for(
    api: httpx.Response | None,
    metrics: httpx.Response | None,
    said: str | None,
    tmp_path: Path,
) -> None:
    home = Home(tmp_path)

    async def http_status(url: str) -> httpx.Response | None:
        return {"http://127.0.0.1:18000/readyz": api, "http://127.0.0.1:18001/readyz": metrics}[url]

    worker = Worker(home, Instance.load(home), 1, port=18000, metrics_port=18001, ask=http_status)
    assert await worker.waiting_for() == said


def test_status_shows_it() -> None:
    detail = f"GET /readyz says 503: {STALLED}"
    service = ServiceState(name="worker-1", condition=Condition.STARTING, is_worker=True, detail=detail)
    shown = as_json(StackState(supervisor=Identity(pid=1, created_at=time.time()), services=[service]))
    assert not shown["ready"]
    assert STALLED in shown["services"][0]["detail"]
