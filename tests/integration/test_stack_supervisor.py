"""The supervisor on real processes: restarts, stops, leftovers, ports in use. With few services, to be quick."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis import Redis

from vision_app.stack import client
from vision_app.stack.client import live_state, running_stack
from vision_app.stack.errors import StackError
from vision_app.stack.home import Home
from vision_app.stack.plan import StackOptions
from vision_app.stack.state import Condition, ServiceState, StackState, read_state

STAND_IN_WORKER = (sys.executable, str(Path(__file__).with_name("stand_in_worker.py")))
# Only Redis, S3 and the simulator are embedded then: a start takes a second.
OTHERS_ARE_EXTERNAL = {
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "DATABASE_URL": "postgresql://postgres:secret@127.0.0.1:1/postgres",
    "NEO4J_URI": "bolt://127.0.0.1:1",
}


def eventually(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def service(home: Path, name: str) -> ServiceState:
    state = live_state(Home(home))
    assert state is not None
    return state.service(name)


def pid(home: Path, name: str) -> int:
    process = service(home, name).process
    assert process is not None
    return process.pid


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with free ports for `vision up`, everything in it stopped at the end."""
    for name, value in OTHERS_ARE_EXTERNAL.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("VISION_HOME", str(tmp_path / ".vision"))
    for name in ("VISION_API_PORT", "METRICS_PORT"):
        with socket.create_server(("127.0.0.1", 0)) as free:
            monkeypatch.setenv(name, str(free.getsockname()[1]))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    client.stop(Home(tmp_path / ".vision"))


def vision(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from vision_app.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def up(*arguments: str) -> subprocess.CompletedProcess[str]:
    return vision("up", "--worker-command", " ".join(STAND_IN_WORKER), *arguments)


def test_a_killed_service_comes_back_with_its_data(tmp_path: Path) -> None:
    with running_stack(tmp_path, services=("redis",)) as variables:
        redis: Any = Redis.from_url(variables["REDIS_URL"])  # redis-py's own types: an answer or one to come
        redis.set("key", "value")
        eventually(lambda: redis.info("persistence")["aof_pending_bio_fsync"] == 0)
        os.kill(pid(tmp_path, "redis"), signal.SIGKILL)
        eventually(lambda: service(tmp_path, "redis").restarts == 1)
        eventually(lambda: service(tmp_path, "redis").condition is Condition.READY)
        assert service(tmp_path, "redis").last_error == "ended by SIGKILL"
        assert redis.get("key") == b"value"
        redis.close()


def test_a_log_on_a_full_disk_does_not_end_the_supervision(place: Path) -> None:
    home = place / ".vision"
    command = [sys.executable, "-m", "vision_app.stack.supervisor", "--workers=0", "--services=redis"]
    with Path("/dev/full").open("wb") as full:
        supervisor = subprocess.Popen(command, stdout=full, stderr=full)
    try:
        eventually(lambda: (now := live_state(Home(home))) is not None and now.is_ready)
        for restarts in (1, 2):
            os.kill(pid(home, "redis"), signal.SIGKILL)
            eventually(lambda restarts=restarts: service(home, "redis").restarts == restarts)  # type: ignore[misc]  # a default binds the number now
            eventually(lambda: service(home, "redis").condition is Condition.READY)
        assert supervisor.poll() is None
    finally:
        supervisor.terminate()
        assert supervisor.wait(30) == 0


def test_a_frozen_service_is_shown_and_is_ready_again_afterwards(tmp_path: Path) -> None:
    with running_stack(tmp_path, services=("redis",), worker=True, worker_command=STAND_IN_WORKER):
        frozen = [pid(tmp_path, name) for name in ("redis", "worker-1")]
        for number in frozen:
            os.kill(number, signal.SIGSTOP)
        try:
            for name in ("redis", "worker-1"):
                eventually(lambda name=name: service(tmp_path, name).condition is Condition.NOT_ANSWERING)  # type: ignore[misc]  # a default binds the name now
            state = live_state(Home(tmp_path))
            assert state is not None
            assert not state.is_ready
        finally:
            for number in frozen:
                os.kill(number, signal.SIGCONT)
        eventually(lambda: (now := live_state(Home(tmp_path))) is not None and now.is_ready)
        assert [pid(tmp_path, name) for name in ("redis", "worker-1")] == frozen, "it was not started anew"


def test_workers_of_a_running_stack_are_scaled_stopped_and_restarted(place: Path) -> None:
    home = place / ".vision"

    def names() -> list[str]:
        state = live_state(Home(home))
        return [s.name for s in state.services if s.is_worker] if state else []

    assert up().returncode == 0
    first = pid(home, "worker-1")
    assert up("--workers", "3").returncode == 0
    assert names() == ["worker-1", "worker-2", "worker-3"]
    assert {service(home, name).condition for name in names()} == {Condition.READY}
    assert up().returncode == 0
    assert len(names()) == 3, "without --workers the number stays"
    stopped = vision("worker", "stop", "2")
    assert (stopped.returncode, stopped.stdout) == (0, "Stopped: worker-2.\n")
    assert service(home, "worker-2").process is None
    assert pid(home, "worker-1") == first
    assert vision("worker", "start", "2").stdout == "Ready: worker-2.\n"
    assert vision("worker", "restart").returncode == 0
    assert pid(home, "worker-1") != first
    assert up("--workers", "1").returncode == 0
    assert names() == ["worker-1"]
    assert up("--workers", "2").returncode == 0
    assert names() == ["worker-1", "worker-2"]
    none = vision("worker", "stop", "7")
    assert (none.returncode, "there are 1, 2" in none.stderr) == (1, True)


def test_a_killed_worker_comes_back(tmp_path: Path) -> None:
    with running_stack(tmp_path, services=("redis",), worker=True, worker_command=STAND_IN_WORKER):
        first = pid(tmp_path, "worker-1")
        os.kill(first, signal.SIGKILL)
        eventually(lambda: (s := service(tmp_path, "worker-1")).condition is Condition.READY and s.restarts == 1)
        assert pid(tmp_path, "worker-1") != first


def test_data_and_ports_outlive_a_stop(tmp_path: Path) -> None:
    with running_stack(tmp_path, services=("redis", "s3")) as first, Redis.from_url(first["REDIS_URL"]) as redis:
        redis.set("key", "value")
    with running_stack(tmp_path, services=("redis", "s3")) as second:
        assert second == first
        with Redis.from_url(second["REDIS_URL"]) as redis:
            assert redis.get("key") == b"value"


def test_nothing_is_left_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    home = Home(tmp_path)
    supervisor = client.start(home, StackOptions(services=("redis", "s3"), workers=0), folder=tmp_path)
    state = client.wait_ready(home, supervisor)
    pids = [s.process.pid for s in state.services if s.process]
    assert len(pids) == 2
    supervisor.process.kill()
    supervisor.process.wait()
    if sys.platform == "linux":
        eventually(lambda: not any(psutil.pid_exists(number) for number in pids))
    client.stop(home)
    assert not any(psutil.pid_exists(number) for number in pids)


def test_a_start_after_a_killed_supervisor_works(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for _ in range(2):
        supervisor = client.start(home, StackOptions(services=("redis",), workers=0), folder=tmp_path)
        client.wait_ready(home, supervisor)
        supervisor.process.kill()
        supervisor.process.wait()
    client.stop(home)


def test_a_second_supervisor_ends(tmp_path: Path) -> None:
    with running_stack(tmp_path, services=("redis",)):
        second = client.start(Home(tmp_path), StackOptions(services=("redis",), workers=0), folder=tmp_path)
        assert client.wait_ready(Home(tmp_path), second).supervisor.pid != second.process.pid
        assert second.process.wait() == 3


def test_a_worker_that_cannot_start_is_reported_with_its_last_words(tmp_path: Path) -> None:
    broken = (sys.executable, "-c", "raise SystemExit('no such topic')")
    with (
        pytest.raises(
            StackError, match=r"worker-1 does not start: ended with exit code 1: no such topic\n.*worker-1\.log"
        ),
        running_stack(tmp_path, services=("redis",), worker=True, worker_command=broken),
    ):
        pytest.fail("a broken worker was taken for ready")
    state = read_state(Home(tmp_path))
    assert state is not None
    assert {s.condition for s in state.services} == {Condition.STOPPED}


def test_the_whole_life_on_the_command_line(place: Path) -> None:
    assert up().returncode == 0
    again = up()
    assert again.returncode == 0
    assert "Already up" in again.stdout
    status = vision("status", "--json")
    document = json.loads(status.stdout)
    assert status.returncode == 0
    assert {s["name"]: s["state"] for s in document["services"]} == {
        "kafka": "external",
        "postgres": "external",
        "neo4j": "external",
        "redis": "ready",
        "s3": "ready",
        "simulator": "ready",
        "worker-1": "ready",
    }
    assert "secret" not in status.stdout
    assert document["gigachat"] == "simulated"
    assert "GigaChat: simulated" in vision("status").stdout
    assert (place / ".vision" / "env").stat().st_mode & 0o777 == 0o600
    pids = [s["pid"] for s in document["services"] if s["pid"]] + [document["supervisor_pid"]]
    down = vision("down")
    assert down.returncode == 0
    assert not any(psutil.pid_exists(number) for number in pids)
    assert vision("down").stdout == "Nothing was running.\n"


def test_two_starts_at_once_end_in_one_stack(place: Path) -> None:
    command = [sys.executable, "-c", "from vision_app.cli import main; main()", "up", "--worker-command"]
    starts = [subprocess.Popen([*command, " ".join(STAND_IN_WORKER)], stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [start.wait(timeout=60) for start in starts] == [0, 0]
    state = live_state(Home(place / ".vision"))
    assert isinstance(state, StackState)
    assert state.is_ready


def test_a_port_in_use_is_named_with_its_holder_and_the_remedy(place: Path) -> None:
    with socket.create_server(("127.0.0.1", int(os.environ["VISION_API_PORT"]))) as taken:
        port = taken.getsockname()[1]
        result = up()
    assert result.returncode == 1
    assert f"port {port} is used by pid {os.getpid()} (" in result.stderr
    assert "stop it or set VISION_API_PORT to another port" in result.stderr
    assert live_state(Home(place / ".vision")) is None
