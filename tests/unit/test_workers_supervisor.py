"""VISION_WORKERS: the supervisor with real processes that are small. Needs no service."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.pipeline import free_port
from tests.several import ROOT, Supervised, small_supervisor, until


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    with small_supervisor(tmp_path) as one:
        yield one


def test_a_process_that_dies_is_started_again_and_readiness_says_so_meanwhile(supervised: Supervised) -> None:
    supervised.start()
    before = supervised.pids()
    assert list(before) == ["w-1", "w-2"]
    os.kill(before["w-2"], signal.SIGKILL)

    said = supervised.said(lambda answer: answer.status_code == 503).json()
    assert said["status"] == "partly_ready"
    assert "1 of 2 processes" in said["reason"]
    assert "w-2" in said["reason"]
    assert "SIGKILL" in said["reason"]
    assert "w-1" not in said["reason"]
    state = said["processes"][1]
    assert (state["name"], state["state"], state["pid"]) == ("w-2", "down", None)
    assert supervised.http.get(f"{supervised.metrics}/readyz").status_code == 503
    alive = supervised.http.get(f"{supervised.metrics}/healthz")
    assert (alive.status_code, "w-2" in alive.text) == (503, True)
    page = supervised.http.get(f"{supervised.metrics}/metrics").text
    assert 'vision_process_up{process="w-2"} 0.0' in page
    assert 'vision_ready{process="w-2"} 0' in page
    assert 'vision_ready{process="w-1"} 1.0' in page

    after = supervised.pids()
    assert after["w-1"] == before["w-1"]
    assert after["w-2"] != before["w-2"]
    page = supervised.http.get(f"{supervised.metrics}/metrics").text
    assert 'vision_process_restarts_total{process="w-2"} 1.0' in page
    assert 'vision_process_up{process="w-2"} 1.0' in page
    assert 'of_one{process="w-2",name="w-2"} 2' in page
    assert [one["service"] for one in supervised.events("service_failed")] == ["w-2"]
    assert "SIGKILL" in supervised.events("service_failed")[0]["error"]


def test_a_process_keeps_its_name_and_its_ports(supervised: Supervised) -> None:
    supervised.start()
    pids = supervised.pids()
    before = psutil.Process(pids["w-1"]).environ()
    os.kill(pids["w-1"], signal.SIGKILL)
    until(lambda: supervised.pids()["w-1"] != pids["w-1"])
    after, other = (psutil.Process(supervised.pids()[name]).environ() for name in ("w-1", "w-2"))
    names = ("VISION_WORKER_ID", "VISION_API_PORT", "METRICS_PORT")
    assert [before[name] for name in names] == [after[name] for name in names]
    assert not {after[name] for name in names} & {other[name] for name in names}
    assert {one["VISION_WORKERS"] for one in (after, other)} == {"1"}


def test_a_frozen_process_delays_no_page_and_is_named(supervised: Supervised) -> None:
    supervised.start()
    frozen = supervised.pids()["w-2"]
    os.kill(frozen, signal.SIGSTOP)
    try:
        for path in ("/metrics", "/readyz"):
            began = time.monotonic()
            answer = supervised.http.get(f"{supervised.metrics}{path}")
            assert time.monotonic() - began < 4
            assert answer.status_code == (200 if path == "/metrics" else 503)
        assert 'vision_process_up{process="w-2"} 0.0' in supervised.http.get(f"{supervised.metrics}/metrics").text
        assert answer.json()["processes"][1]["state"] == "not_answering"
        assert supervised.http.get(f"{supervised.metrics}/healthz").status_code == 503
    finally:
        os.kill(frozen, signal.SIGCONT)
    assert supervised.pids()["w-2"] == frozen


def test_a_process_that_is_not_ready_is_named_with_its_reason(supervised: Supervised) -> None:
    supervised.start()
    supervised.ready()
    supervised.tell("w-1", "blocked", "stalled: media at vision.media-3-17")
    said = supervised.said(lambda answer: answer.status_code == 503).json()
    assert "w-1: stalled: media at vision.media-3-17" in said["reason"]
    assert said["status"] == "partly_ready"
    supervised.tell("w-2", "blocked", "recovering the tables")
    said = supervised.said(lambda answer: bool(answer.json()["status"] == "not_ready")).json()
    assert "none of 2 processes works" in said["reason"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_all_processes_and_waits_for_them(supervised: Supervised, number: signal.Signals) -> None:
    supervised.start()
    pids = supervised.pids()
    supervised.tell("w-2", "slow")
    assert supervised.process is not None
    supervised.process.send_signal(number)
    until(lambda: not psutil.pid_exists(pids["w-1"]) or psutil.Process(pids["w-1"]).status() == "zombie")
    assert supervised.process.poll() is None  # it waits for the slow one
    (supervised.home / "w-2.slow").unlink()
    assert supervised.ended() == 0
    assert {one["worker"] for one in supervised.events("stopped")} == {"w-1", "w-2"}
    assert not [pid for pid in pids.values() if psutil.pid_exists(pid)]
    assert supervised.events("service_failed") == []


def test_a_process_that_does_not_end_in_time_is_killed(supervised: Supervised) -> None:
    supervised.start({"slack_seconds": 0.5}, VISION_HANDLER_DEADLINE_SECONDS="1")
    pids = supervised.pids()
    os.kill(pids["w-1"], signal.SIGSTOP)
    assert supervised.process is not None
    supervised.process.terminate()
    assert supervised.ended() == 0
    assert not [pid for pid in pids.values() if psutil.pid_exists(pid)]
    assert [one["service"] for one in supervised.events("service_killed")] == ["w-1"]


def test_processes_end_with_a_killed_supervisor(supervised: Supervised) -> None:
    supervised.start()
    pids = supervised.pids()
    assert supervised.process is not None
    supervised.process.kill()
    supervised.process.wait()
    until(lambda: not [pid for pid in pids.values() if psutil.pid_exists(pid)], "the end of the processes")
    assert {one["worker"] for one in supervised.events("stopped")} == {"w-1", "w-2"}


def test_a_wrong_setting_of_a_process_ends_all_with_its_code(supervised: Supervised) -> None:
    supervised.tell("w-2", "exits", "2")
    supervised.start()
    assert supervised.ended() == 2
    (given_up,) = supervised.events("processes_given_up")
    assert (given_up["process"], given_up["exit_code"]) == ("w-2", 2)
    assert len([one for one in supervised.events("started") if one["worker"] == "w-2"]) == 1


def test_processes_that_never_start_are_given_up(supervised: Supervised) -> None:
    for name in ("w-1", "w-2"):
        supervised.tell(name, "exits", "7")
    supervised.start({"failures": 2})
    assert supervised.ended() == 7
    (given_up,) = supervised.events("processes_given_up")
    assert "2 times in a row" in given_up["why"]
    assert "exit code 7" in supervised.events("service_failed")[0]["error"]


def test_one_that_never_starts_does_not_end_the_other_one(supervised: Supervised) -> None:
    supervised.tell("w-2", "exits", "7")
    supervised.start({"failures": 2})
    until(lambda: len(supervised.events("service_failed")) >= 3)
    answer = supervised.get("/readyz")
    assert answer is not None
    assert answer.json()["status"] == "partly_ready"
    assert "exit code 7" in answer.json()["reason"]
    (supervised.home / "w-2.exits").unlink()
    supervised.ready()


@pytest.mark.parametrize("variable", ["VISION_API_PORT", "METRICS_PORT"])
def test_a_taken_port_is_one_sentence_and_starts_nothing(supervised: Supervised, variable: str) -> None:
    supervised.start()
    supervised.ready()
    taken = (supervised.url if variable == "VISION_API_PORT" else supervised.metrics).rpartition(":")[2]
    program = [sys.executable, "-m", "vision_app", "worker"]
    environment = {"VISION_WORKERS": "2", "VISION_WORKER_ID": "v", "VISION_HOME": str(supervised.home)}
    ports = {"VISION_API_PORT": str(free_port()), "METRICS_PORT": str(free_port())}
    done = subprocess.run(
        program,
        env={"PYTHONPATH": ROOT, "PATH": os.environ["PATH"], **environment, **ports, variable: taken},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert re.search(rf"cannot serve .* on 127.0.0.1:{taken}: .*set {variable}|set .*{variable}", done.stderr)
    assert "service_" not in done.stderr
