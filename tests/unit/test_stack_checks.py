"""Checks of this machine: what they say when something is short or missing."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace

import asyncpg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from vision_app.settings import Settings, load_settings
from vision_app.stack import checks
from vision_app.stack.checks import Level
from vision_app.stack.errors import StackError
from vision_app.stack.home import Home
from vision_app.stack.plan import StackPlan
from vision_app.stack.process import Identity
from vision_app.stack.reachable import PROBES, Unreachable
from vision_app.stack.state import ServiceState, StackState


def test_a_full_disk_stops_the_start_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # patched: the system's
    monkeypatch.setattr("vision_app.stack.checks.shutil.disk_usage", lambda _: SimpleNamespace(free=3_000_000))
    with pytest.raises(StackError, match=r"0\.0 GB free at .*; free at least 1 GB, or set VISION_HOME"):
        checks.before_start(Home(tmp_path / "not" / "made" / "yet"))


def test_little_memory_is_a_hint_before_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    # patched: the system's
    monkeypatch.setattr(
        "vision_app.stack.checks.psutil.virtual_memory", lambda: SimpleNamespace(available=1_000_000_000)
    )
    assert checks.memory(None).verdict is Level.HINT


async def test_a_port_used_by_another_program_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    # patched: a port that accepts and never answers would cost the whole wait
    monkeypatch.setattr("vision_app.stack.checks.WORKER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        api, metrics = await checks.worker_ports(Settings(vision_api_port=port, metrics_port=0), None)
    assert api.verdict is Level.FAILED
    assert "set VISION_API_PORT to another port" in api.detail
    assert metrics.verdict is Level.OK


@pytest.mark.parametrize(
    ("body", "verdict", "says"),
    [
        ({"status": "ready", "waiting_for": {}}, Level.OK, "used by a worker that `vision up` did not start"),
        ({"status": "up"}, Level.FAILED, "set VISION_API_PORT to another port"),
    ],
)
async def test_the_port_of_a_worker_in_a_container_or_started_by_hand_is_right(
    body: dict[str, object], verdict: Level, says: str
) -> None:
    async def page(request: web.Request) -> web.Response:
        return web.json_response(body)

    server = web.Application()
    server.router.add_get("/readyz", page)
    async with TestServer(server, host="127.0.0.1") as running:
        settings = Settings(vision_api_port=running.port or 0, metrics_port=0)
        api, _ = await checks.worker_ports(settings, None)
        of_ours = [ServiceState(name="worker-1", is_worker=True)]
        managed = StackState(supervisor=Identity(pid=1, created_at=0), services=of_ours)
        taken, _ = await checks.worker_ports(settings, managed)
    assert (api.verdict, says in api.detail) == (verdict, True)
    assert taken.verdict is Level.FAILED, "ours cannot start while another worker has its port"


async def test_an_error_without_a_text_is_named_by_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(*_: object, **__: object) -> None:
        raise asyncpg.InterfaceError("")

    # patched: the library's error without a text
    monkeypatch.setattr("vision_app.stack.reachable.asyncpg.connect", connect)
    with pytest.raises(Unreachable, match="InterfaceError"):
        await PROBES["postgres"](Settings())


async def test_the_real_provider_is_not_called_the_simulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def answers(settings: Settings) -> str:
        return "real"

    monkeypatch.setitem(PROBES, "gigachat", answers)
    found = await checks.services(Settings(), StackPlan(external={"gigachat": "https://example.org"}), None)
    assert [(finding.check, finding.detail) for finding in found] == [("gigachat", "real")]


@pytest.mark.parametrize(
    ("variables", "verdict", "says"),
    [
        ({}, Level.OK, "all values can be used"),
        ({"FEATURE_VISION_ENABLED": "false"}, Level.HINT, "no input is read"),
        ({"VISION_MAX_DAYLY_TOKENS": "9"}, Level.HINT, "VISION_MAX_DAILY_TOKENS is meant?"),
        ({"KAFKA_BOOTSTRAP_SERVER": "x:1"}, Level.HINT, "KAFKA_BOOTSTRAP_SERVERS is meant?"),
        ({"GIGACHAT_VERIFY_SSL": "false"}, Level.HINT, "has no effect"),
        ({"GIGACHAT_CLIENT_ID": "i"}, Level.FAILED, "GIGACHAT_CLIENT_ID is set and GIGACHAT_CLIENT_SECRET is not"),
        ({"S3_SECRET_ACCESS_KEY": "s"}, Level.FAILED, "S3_SECRET_ACCESS_KEY is set and S3_ACCESS_KEY_ID is not"),
        ({"VISION_HOME": "x", "VISION_PORTS": "1-2", "PORT": "1", "REDIS_PORT": "6379"}, Level.OK, "all values"),
    ],
)
def test_settings_that_hardly_mean_what_was_wished(
    variables: dict[str, str], verdict: Level, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    [finding] = checks.given_settings(load_settings())
    assert (finding.check, finding.verdict) == ("settings", verdict)
    assert says in finding.detail


def test_a_misspelt_variable_in_the_file_and_a_pair_from_two_places_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("LOG_LEVLE=DEBUG\nGIGACHAT_CLIENT_ID=mine\n")
    (tmp_path / ".vision").mkdir()
    (tmp_path / ".vision" / "env").write_text("GIGACHAT_CLIENT_ID=s\nGIGACHAT_CLIENT_SECRET=s\n")
    pair, name = checks.given_settings(load_settings())
    assert "GIGACHAT_CLIENT_ID comes from the .env and GIGACHAT_CLIENT_SECRET from the embedded stack" in pair.detail
    assert (name.verdict, "LOG_LEVEL is meant?" in name.detail) == (Level.HINT, True)


@pytest.mark.parametrize(("second", "verdict"), [(1, Level.OK), (0, Level.HINT)])
async def test_every_process_of_the_worker_must_have_ocr(second: int, verdict: Level) -> None:
    async def page(request: web.Request) -> web.Response:
        ocr = [f'vision_ocr_available{{process="w-{number}"}} {found}.0' for number, found in ((1, 1), (2, second))]
        return web.Response(text="\n".join(ocr))

    server = web.Application()
    server.router.add_get("/metrics", page)
    async with TestServer(server, host="127.0.0.1") as running:
        [finding] = await checks.ocr_of_worker(Settings(metrics_port=running.port or 0))
    assert finding.verdict is verdict


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
