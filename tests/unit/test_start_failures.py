"""A failed start says why, and errors while closing do not hide the reason."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import psutil
import pytest

from vision_app import app as composition
from vision_app.providers.decoders import Child, DecoderLimits, Decoders, DecodersUnavailable
from vision_app.settings import Settings, load_settings
from vision_app.stack import supervised
from vision_app.telemetry import traces

AWAY = {
    "redis_url": "redis://127.0.0.1:1/0",
    "kafka_bootstrap_servers": "127.0.0.1:1",
    "database_url": "postgresql://postgres@127.0.0.1:1/postgres",
    "s3_endpoint_url": "http://127.0.0.1:1",
    "s3_access_key_id": "key",
    "s3_secret_access_key": "secret",
    "neo4j_uri": "bolt://127.0.0.1:1",
}


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """Settings with which no service can be reached."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VISION_HOME", str(tmp_path))
    return load_settings(**AWAY)


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now. Fixed ones may be taken by any connection of this machine."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


def started(folder: Path, **more: str) -> list[dict[str, Any]]:
    """The log of a worker whose start fails."""
    places = {name.upper(): value for name, value in AWAY.items()} | {"VISION_HOME": str(folder)}
    ports = dict(zip(("VISION_API_PORT", "METRICS_PORT"), map(str, free_ports(2)), strict=True))
    command = [sys.executable, "-m", "vision_app", "--quiet", "worker", "--loglevel", "info"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env={**os.environ, **places, **ports, **more}, timeout=90
    )
    assert done.returncode != 0
    return [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]


async def test_every_resource_can_be_closed_unopened_and_twice(away: Settings) -> None:
    resources = composition.create_app(away).resources
    assert len(resources) >= 6
    for resource in resources:
        await resource.close()
        await resource.close()


async def test_every_sink_can_be_closed_unopened_and_twice(away: Settings) -> None:
    sinks = [batches.sink for batches in composition.create_app(away).sinks]
    assert len(sinks) >= 3
    for sink in sinks:
        await sink.close()
        await sink.close()


async def test_a_resource_that_cannot_be_closed_keeps_no_other_open(away: Settings) -> None:
    closed = []

    class Resource:
        def __init__(self, name: str) -> None:
            self.name = name

        async def close(self) -> None:
            if self.name == "broken":
                raise AttributeError("'Resource' object has no attribute '_tokens'")
            closed.append(self.name)

    app = composition.create_app(away)
    app.resources = [Resource("first"), Resource("broken"), Resource("last")]
    await app.on_shutdown()
    assert closed == ["last", "first"]


def test_without_kafka_the_worker_says_so_and_nothing_else_goes_wrong(tmp_path: Path) -> None:
    errors = [line for line in started(tmp_path) if line["level"] in ("error", "critical")]
    assert not [line for line in errors if "AttributeError" in json.dumps(line)]
    (reason,) = [line for line in errors if line["event"] == "worker_start_failed"]
    assert "check KAFKA_BOOTSTRAP_SERVERS" in reason["error"]
    assert "vision doctor" in reason["next_step"]


def test_a_worker_by_itself_needs_a_port_and_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vision_app", "worker"]
    environment = {**os.environ, "VISION_API_PORT": "0", "VISION_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("VISION_API_PORT: 0")


async def test_a_child_that_started_beside_one_that_did_not_is_ended(away: Settings) -> None:
    """`open` fails as a whole, but remembers the process that it has started."""
    tries = itertools.count()

    def start(limits: DecoderLimits, threads: Executor) -> Child:
        if next(tries) == 0:
            raise OSError("no memory")
        return Child(limits, threads)

    pool = Decoders(away, start=start)
    with pytest.raises(DecodersUnavailable, match="no memory"):
        await pool.open()
    (pid,) = pool.pids
    await pool.close()
    assert not psutil.pid_exists(pid)


LINE = '{{"level":"{level}","event":"{event}"{more}}}\n'


def test_the_reason_of_an_end_is_the_error_with_advice_and_not_the_last_line(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    before = LINE.format(level="error", event="of an earlier process", more=',"next_step":"none"')
    log.write_text(
        before
        + LINE.format(level="error", event="worker_start_failed", more=',"error":"no Kafka","next_step":"look"')
        + LINE.format(level="error", event="[^Worker]: Error: KafkaConnectionError", more="")
        + LINE.format(level="info", event="Closing event loop", more="")
    )
    assert supervised._describe_exit(1, log, len(before)) == (
        "ended with exit code 1: worker_start_failed: no Kafka: look"
    )


def test_an_end_in_the_middle_of_work_is_described_with_its_cause_and_remedy(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    more = ',"what":"a sink\'s writer ended","exit_code":72,"remedy":"set the record aside"'
    log.write_text(LINE.format(level="critical", event="worker_aborted", more=more))
    assert supervised._describe_exit(72, log, 0) == (
        "ended with exit code 72: worker_aborted: a sink's writer ended: set the record aside"
    )


def test_programs_that_log_otherwise_are_quoted_by_their_last_line(tmp_path: Path) -> None:
    log = tmp_path / "postgres.log"
    log.write_text("starting\n{not json\nFATAL: no space left on device\n\n")
    assert supervised._describe_exit(1, log, 0).endswith(": FATAL: no space left on device")


def test_traces_without_their_packages_are_told_in_one_line(tmp_path: Path) -> None:
    """An empty package of this name stands before the installed one."""
    (tmp_path / "without" / "opentelemetry").mkdir(parents=True)
    (tmp_path / "without" / "opentelemetry" / "__init__.py").touch()
    path = os.pathsep.join([str(tmp_path / "without"), str(Path(composition.__file__).parents[1])])
    lines = started(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", PYTHONPATH=path)
    (failed,) = [line for line in lines if line["event"] == "worker_start_failed"]
    assert failed["error"] == traces.MISSING
    assert not [line for line in lines if "exception" in line], "no traceback"
