"""Checks of this machine: what they say when something is short or missing."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from vision_app.settings import Settings
from vision_app.stack import checks
from vision_app.stack.checks import Level
from vision_app.stack.errors import StackError
from vision_app.stack.home import Home


def test_a_full_disk_stops_the_start_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vision_app.stack.checks.shutil.disk_usage", lambda _: SimpleNamespace(free=3_000_000))
    with pytest.raises(StackError, match=r"0\.0 GB free at .*; free at least 1 GB, or set VISION_HOME"):
        checks.before_start(Home(tmp_path / "not" / "made" / "yet"))


def test_little_memory_is_a_hint_before_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "vision_app.stack.checks.psutil.virtual_memory", lambda: SimpleNamespace(available=1_000_000_000)
    )
    assert checks.memory(None).verdict is Level.HINT


def test_a_port_used_by_another_program_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        api, metrics = checks.worker_ports(Settings(vision_api_port=port, metrics_port=0), None)
    assert api.verdict is Level.FAILED
    assert "set VISION_API_PORT to another port" in api.detail
    assert metrics.verdict is Level.OK


@pytest.mark.parametrize(
    ("shown", "verdict", "says"),
    [(1, Level.OK, "can be run"), (0, Level.HINT, "has gone or was never there"), (None, None, "")],
)
async def test_the_running_worker_is_asked_whether_it_still_has_ocr(
    shown: int | None, verdict: Level | None, says: str
) -> None:
    async def page(request: web.Request) -> web.Response:
        return web.Response(text=f"vision_ready 1.0\nvision_ocr_available {shown}.0\n")

    server = web.Application()
    server.router.add_get("/metrics", page)
    async with TestServer(server, host="127.0.0.1") as running:
        port = running.port or 0
        if shown is not None:
            found = await checks.ocr_of_worker(Settings(metrics_port=port, metrics_host="0.0.0.0"))  # noqa: S104 - never listened on
            assert [finding.verdict for finding in found] == [verdict]
            assert says in found[0].detail
            assert await checks.ocr_of_worker(Settings(metrics_port=port, vision_ocr_fallback_enabled=False)) == []
    if shown is None:
        assert await checks.ocr_of_worker(Settings(metrics_port=port)) == [], "nobody answers: other findings say so"


@pytest.mark.parametrize(
    ("languages", "verdict", "says"),
    [
        ("rus\neng\n", Level.OK, "rus+eng"),
        ("eng\n", Level.HINT, "has no data for rus"),
        (None, Level.HINT, "not found"),
    ],
)
def test_tesseract(
    languages: str | None, verdict: Level, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if languages is not None:
        program = tmp_path / "tesseract"
        program.write_text(f"#!/bin/sh\necho 'List of available languages (2):'\nprintf '{languages}'\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin" if languages is not None else str(tmp_path))
    finding = checks.tesseract("rus+eng")
    assert finding.verdict is verdict
    assert says in finding.detail
