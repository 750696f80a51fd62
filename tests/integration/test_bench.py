"""`vision bench pace` measures what it says, and nothing it publishes is lost. How fast it is, no test says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.py_spy import may_sample
from vision_app.audit.figures import percentile
from vision_app.lab.bench.plan import BenchOptions, draw
from vision_app.lab.bench.profiler import SUFFIX
from vision_app.lab.bench.run import BenchResult, Phase

COMMAND = [sys.executable, "-c", "from vision_app.cli import main; main()", "bench", "pace"]


def wish(**changes: Any) -> BenchOptions:
    given: dict[str, Any] = {
        "seconds": 10,
        "warm_up": 2,
        "tenants": 3,
        "rate": 2,
        "flood": 5,
        "workers": 1,
        "answers": (0, 0),
    }
    return BenchOptions(Path("home"), **{**given, **changes})


def test_every_post_of_a_plan_has_a_picture_and_a_name_of_its_own() -> None:
    plan = draw(wish(), "run")
    assert [len(posts) for posts in (plan.warm_up, *plan.phases.values(), plan.flood)] == [4, 20, 20, 5]
    assert len({post.post_id for post in plan.posts}) == len({post.pictures for post in plan.posts}) == 49
    assert [post.at for post in plan.phases["calm"]] == [number / 20 for number in range(20)]
    assert {post.tenant_id for post in plan.phases["calm"]} == {"run-0", "run-1", "run-2"}
    assert {post.tenant_id for post in plan.flood} == {"run-flood"}


def test_without_a_flood_there_is_one_phase() -> None:
    plan = draw(wish(flood=0, warm_up=0), "run")
    assert (list(plan.phases), plan.warm_up, plan.flood) == (["calm"], [], [])


@pytest.mark.parametrize(
    ("values", "share", "expected"), [([], 0.5, 0), ([7], 0.95, 7), ([3, 1, 2], 0.5, 2), (list(range(101)), 0.95, 95)]
)
def test_percentiles(values: list[float], share: float, expected: float) -> None:
    assert percentile(values, share) == expected


def phase(p95: float, announced: int = 10) -> Phase:
    return Phase("calm", 10, announced, 1, p95, p95, p95, 1.0, {})


def test_a_run_fails_if_posts_are_lost_and_not_if_they_are_slow() -> None:
    assert BenchResult(wish(), [phase(100), phase(900)], flood_announced=5).ok
    assert BenchResult(wish(), [phase(100), phase(900)]).ratio == 9
    calm = wish(flood=0)
    assert BenchResult(calm, [phase(100)]).ok
    assert BenchResult(calm, [phase(100)]).ratio is None
    assert not BenchResult(calm, [phase(100, announced=9)]).ok
    assert not BenchResult(calm, [phase(100)], left="vision.posts: 1 waiting").ok
    assert not BenchResult(wish(), [phase(100), phase(900)], flood_announced=4).ok


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--answers", "0.6", "0.2"], "the shortest first"), (["--max-ratio", "2"], "nothing to compare without --flood")],
)
def test_contradictory_options_are_refused(options: list[str], said: str) -> None:
    done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, check=False)
    assert (done.returncode, said in done.stderr) == (2, True)


def test_a_short_run_with_a_flood(tmp_path: Path) -> None:
    environment = {**os.environ, "VISION_HOME": str(tmp_path / "home"), "COLUMNS": "200"}
    options = ["--seconds=3", "--warm-up=1", "--tenants=3", "--rate=4", "--flood=12", "--max-ratio=1000", "--json"]
    if is_profiled := may_sample():
        options.append(f"--profile={tmp_path / 'stacks'}")
    done = subprocess.run([*COMMAND, *options], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    result = orjson.loads(done.stdout)
    assert [(one["name"], one["posts"], one["announced"]) for one in result["phases"]] == [
        ("calm", 12, 12),
        ("under flood", 12, 12),
    ]
    for one in result["phases"]:
        assert 200 <= one["p50"] <= one["p95"] <= one["p99"] <= one["longest"], "the provider takes 200 ms at least"
        assert one["cpu_ms"] > 0
        assert sum(one["stages"].values()) > 200
    assert (result["left"], result["flood_announced"], result["flood_seconds"] > 0) == ("", 12, True)
    assert b"The p95 under flood is" in done.stderr
    if is_profiled:
        calm, flood = result["profiles"]["calm"], result["profiles"]["under flood"]
        for one, file in ((calm, "calm"), (flood, "under-flood")):
            lines = (tmp_path / "stacks" / f"{file}{SUFFIX}").read_text("utf-8").splitlines()
            assert one["samples"] == sum(int(line.rpartition(" ")[2]) for line in lines) > 0
            assert sum(part["share"] for part in one["parts"].values()) == pytest.approx(1, abs=0.001)
            assert one["parts"]["Kafka and Faust"]["share"] > 0
        assert 0 < calm["cpu_ms_a_post"] <= result["phases"][0]["cpu_ms"] + 1, "without decoders"
        assert flood["cpu_ms_a_post"] is None, "the posts of the flood take a part that is not known"
        assert b"Where the interpreter's time goes" in done.stderr
    assert list((tmp_path / "home" / "bench").iterdir()) == [], "nothing is left of a good run"
