"""`vision bench all` runs every scenario and shows its figures. How fast it is, no test says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from tests.py_spy import may_sample
from vision_app.lab.bench.scenarios import SCENARIOS

COMMAND = [sys.executable, "-c", "from vision_app.cli import main; main()", "bench", "all"]
TINY = {
    "capacity": "10",
    "pace": "1",
    "provider": "6",
    "scaling": "6",
    "replay": "20",
    "letters": "5",
    "relay": "1000",
    "sinks": "10",
    "growth": "300",
    "recovery": "300",
}
BESIDE = {"pace", "scaling", "relay", "sinks"}
"""Scenarios whose every figure has one of a plain worker beside it."""
PROFILED = {"relay: entries", "pace: 4 a second", "capacity: duplicate", "scaling-3: new picture", "replay: duplicates"}


@pytest.mark.timeout(600)
def test_every_scenario_in_tiny_sizes(tmp_path: Path) -> None:
    environment = {**os.environ, "VISION_HOME": str(tmp_path / "home"), "COLUMNS": "200"}
    environment["KAFKA_SESSION_TIMEOUT_SECONDS"] = "6"  # a killed worker's partitions move sooner
    sizes = [f"--size={name}={size}" for name, size in TINY.items()]
    profiled = [f"--profile={tmp_path / 'stacks'}"] if may_sample() else []
    done = subprocess.run(
        [*COMMAND, "--json", "--warm-up=2", *sizes, *profiled], env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    result = orjson.loads(done.stdout)
    assert (result["ok"], result["faults"]) == (True, [])
    figures = {(row["scenario"], row["name"]): row for row in result["rows"]}
    assert {scenario for scenario, _ in figures} == SCENARIOS.keys() == TINY.keys()
    nothing = {name for (_, name), row in figures.items() if row["ours"]["median"] <= 0}
    may_be_nothing = ("calls billed twice", "memory of each")  # so few rows are lost in the memory of two starts
    assert [name for name in nothing if not name.endswith(may_be_nothing)] == []
    assert all((row["ratio"] or 0) > 0 for (scenario, _), row in figures.items() if scenario in BESIDE)
    for case in ("1 worker", "3 workers", "3 workers, one killed"):
        assert 0 < figures["provider", f"{case}, streams in use"]["ours"]["median"] <= 100
        assert figures["provider", f"{case}, longest wait"]["ours"]["median"] > 3, "an answer takes 3 s"
    assert ("growth", "at 300 posts, restart") in figures
    assert ("recovery", "300 open posts, restart") in figures
    if profiled:
        assert result["profiles"].keys() >= PROFILED
        assert {name for name, one in result["profiles"].items() if not one["samples"]} == set()
        alone = {name for name, one in result["profiles"].items() if one["cpu_ms_a_post"]}
        assert result["profiles"].keys() - alone == {"scaling-2: new picture", "scaling-3: new picture"}
    assert "ours / plain" in done.stderr.decode()
    assert list((tmp_path / "home" / "bench").iterdir()) == [], "nothing is left of a good run"
