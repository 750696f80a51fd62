"""What a worker makes at its start is dropped afterwards: doctor names it and the command, the command mends it.

On stacks of its own, since it takes away what other tests need.
"""

from __future__ import annotations

import asyncio
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

import aioboto3
import asyncpg
import httpx
import pytest

from vision_app.stack.client import live_state, running_stack
from vision_app.stack.home import Home
from vision_app.stack.state import Condition

pytestmark = pytest.mark.timeout(600)  # stacks are started and commands run one after another

SENTENCE = "Topic vision.media not found in cluster metadata"


class Stack:
    def __init__(self, home: Path, variables: dict[str, str]) -> None:
        self.home, self.variables = home, variables

    def vision(self, *arguments: str, code: int | None = 0) -> str:
        command = [sys.executable, "-c", "from vision_app.cli import main; main()", *arguments]
        environment = os.environ | self.variables
        done = subprocess.run(command, capture_output=True, text=True, timeout=150, env=environment, cwd=self.home)
        assert code in (None, done.returncode), f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout

    def findings(self) -> dict[str, dict[str, Any]]:
        return {one["check"]: one for one in json.loads(self.vision("doctor", "--json", code=None))}

    def execute(self, sql: str) -> list[Any]:
        async def run() -> list[Any]:
            connection = await asyncpg.connect(self.variables["DATABASE_URL"])
            try:
                return list(await connection.fetch(sql))
            finally:
                await connection.close()

        return asyncio.run(run())

    def delete_bucket(self) -> None:
        async def run() -> None:
            names = ("S3_ENDPOINT_URL", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY")
            url, key, secret = (self.variables[name] for name in names)
            client = aioboto3.Session().client(
                "s3", endpoint_url=url, aws_access_key_id=key, aws_secret_access_key=secret, region_name="x"
            )
            async with client as s3:
                await s3.delete_bucket(Bucket="vision")

        asyncio.run(run())

    def eventually(self, condition: Callable[[], object], seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "did not happen in time"
            time.sleep(0.2)

    def restart_worker(self) -> None:
        before = self._worker()
        assert before.process is not None
        os.kill(before.process.pid, signal.SIGTERM)
        self.eventually(
            lambda: (
                (now := self._worker()).condition is Condition.READY
                and now.process is not None
                and before.process is not None
                and now.process.pid != before.process.pid
            )
        )

    def _worker(self) -> Any:
        state = live_state(Home(self.home))
        assert state is not None
        return state.service("worker-1")


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("services")
    with running_stack(home, services=("kafka", "postgres", "s3")) as variables:
        yield Stack(home, variables)


def test_before_the_first_start_nothing_is_missing_and_repair_makes_everything(services: Stack) -> None:
    found = services.findings()
    assert (found["kafka"]["verdict"], found["postgres"]["verdict"]) == ("hint", "ok")
    assert "when it starts" in found["kafka"]["detail"]
    services.vision("migrate", "repair")
    services.vision("migrate", "status")
    found = services.findings()
    assert {found[name]["verdict"] for name in ("kafka", "postgres", "s3")} == {"ok"}
    assert "There is nothing to apply" in services.vision("migrate", "apply")


def test_a_missing_object_is_named_with_the_command_that_repairs_it(services: Stack) -> None:
    services.vision("migrate", "repair")
    services.execute("DROP TABLE budget_actions")
    services.execute("DROP INDEX post_enrichment_data")
    for topic in ("vision.media", "vision-budget-changelog"):
        services.vision("kafka", "topics", "--delete", "--topic", topic)
    services.delete_bucket()
    found = services.findings()
    for check, names in {
        "kafka": ("vision.media", "vision-budget-changelog"),
        "postgres": ("table budget_actions", "index post_enrichment.post_enrichment_data"),
        "s3": ("no bucket vision",),
    }.items():
        assert found[check]["verdict"] == "failed"
        assert all(name in found[check]["detail"] for name in names)
        assert "`vision migrate repair`" in found[check]["detail"]
    told = services.vision("migrate", "status", code=1)
    assert "table budget_actions is missing; `vision migrate repair` puts it back" in told
    assert "topic vision.media is missing" in told
    mended = services.vision("migrate", "repair")
    assert "budget_actions is empty: set the limits and pauses again" in mended
    assert "restart the workers" in mended
    services.vision("migrate", "status")
    assert {services.findings()[name]["verdict"] for name in ("kafka", "postgres", "s3")} == {"ok"}


def test_another_count_of_partitions_is_named_and_not_repaired(services: Stack) -> None:
    services.vision("migrate", "repair")
    services.vision("kafka", "topics", "--alter", "--topic", "vision.dlq", "--partitions", "9")
    try:
        assert "topic vision.dlq has 9 partitions" in services.findings()["kafka"]["detail"]
        assert "vision.dlq has 9" in services.vision("migrate", "status", code=1)
        services.vision("migrate", "repair", "--only", "kafka", code=1)
    finally:
        services.vision("kafka", "topics", "--delete", "--topic", "vision.dlq")
        services.vision("migrate", "repair")


def test_services_that_are_away_are_named_and_not_a_traceback(services: Stack) -> None:
    away = Stack(
        services.home,
        services.variables
        | {
            "DATABASE_URL": "postgresql://postgres@127.0.0.1:1/x",
            "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
            "S3_ENDPOINT_URL": "http://127.0.0.1:1",
        },
    )
    told = away.vision("migrate", "status", code=1)
    assert all(f"{part}: NOT AS IT SHOULD BE" in told for part in ("postgres", "kafka", "s3"))
    away.vision("migrate", "repair", code=1)
    away.vision("migrate", "refill", code=1)


def test_a_topic_and_a_table_that_go_while_the_worker_runs(tmp_path: Path) -> None:
    """The log stays readable, and everything comes back: the post in between, and the rows of before."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = {"VISION_API_PORT": str(one.getsockname()[1]), "METRICS_PORT": str(two.getsockname()[1])}
    with running_stack(tmp_path, worker=True, environment=ports) as variables:
        stack = Stack(tmp_path, variables | ports)
        stack.vision("e2e")
        log = Home(tmp_path).log("worker-1")
        begins = log.stat().st_size
        stack.vision("kafka", "topics", "--delete", "--topic", "vision.media")
        lost = subprocess.Popen(
            [sys.executable, "-c", "from vision_app.cli import main; main()", "e2e"],
            env=os.environ | stack.variables,
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
        )
        metrics = f"http://127.0.0.1:{ports['METRICS_PORT']}/metrics"
        try:
            stack.eventually(lambda: _counted(metrics) > 500)
        finally:
            lost.kill()
            lost.wait()
        with log.open() as lines:
            lines.seek(begins)
            said = [line for line in map(json.loads, lines) if line["event"] == SENTENCE]
        assert 1 <= len(said) <= 10 + 3, "ten, and one for every minute that it took"
        assert "vision.media" in stack.findings()["kafka"]["detail"]

        stack.execute("DROP TABLE post_enrichment CASCADE")
        stack.vision("migrate", "repair")
        assert "Wrote" in stack.vision("migrate", "refill")
        states = [row["status"] for row in stack.execute("SELECT status FROM post_enrichment")]
        assert "ok" in states, "the first post; the lost one, too, if a producer saw the new topic in time"
        stack.restart_worker()
        stack.vision("e2e")
        stack.eventually(
            lambda: [row["status"] for row in stack.execute("SELECT status FROM post_enrichment")] == ["ok"] * 3
        )


def _counted(url: str) -> float:
    page = httpx.get(url, trust_env=False, timeout=10).text
    values = [
        line.rpartition(" ")[2] for line in page.splitlines() if line.startswith("vision_log_lines_counted_total{")
    ]
    return sum(map(float, values))
