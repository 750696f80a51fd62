"""What an operator on call is told: a deferred post, a skip by the policy, a frozen Kafka. The worker has no OCR."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
import psutil
import pytest

from tests.integration.pipeline import Pipeline, Worker, picture, unique
from tests.integration.test_operations import Vision
from vision_app.operations.neighbours import never_uploaded
from vision_app.stack.home import Home
from vision_app.stack.state import read_state

LIMIT_SECONDS = 20
"""5 to 8 s on an idle machine; without limits of our own the clients would wait for 60 s and longer."""
WORKER = {"VISION_OCR_FALLBACK_ENABLED": "false"}


@pytest.fixture
def vision(stack: Mapping[str, str], tmp_path: Path, worker: Worker) -> Vision:
    return Vision(stack, tmp_path, worker.url)


async def test_a_deferred_post_and_a_skip_by_the_policy_say_why(pipe: Pipeline, vision: Vision, worker: Worker) -> None:
    tenant, post, odd, since = unique("poor"), unique("poor"), unique("odd"), await pipe.newest()
    await vision("budget", "set", "1", tenant)
    await pipe.publish(tenant, post, [await pipe.upload(tenant, picture())])
    await pipe.publish(tenant, odd, [never_uploaded(tenant, odd, "application/zip")])
    await pipe.announced([post, odd], since)
    await pipe.idle()
    [told] = await vision.json("diag", "--post-id", post)
    assert told["Status"] == "deferred"
    for text in (told["Waits For"], (await vision.json("trace", post, code=3))[0]["stopped"]):
        assert text.startswith("deferred until "), text
        assert f"`vision budget set LIMIT {tenant}`" in text
    await vision("pause", tenant)
    assert f"`vision resume {tenant}`" in (await vision.json("trace", post, code=3))[0]["stopped"]
    assert "policy: unsupported_mime" in await vision("diag", "--post-id", odd)
    assert "policy: unsupported_mime" in await vision("trace", odd)
    async with httpx.AsyncClient(trust_env=False) as http:
        page = (await http.get(f"{worker.metrics_url}/metrics")).text
    assert re.search(r'^vision_media_total\{reason="unsupported_mime",result="skipped"\} [1-9]', page, re.MULTILINE)
    await vision("resume", tenant)
    await vision("budget", "set", "default", tenant)
    await pipe.idle()
    assert "No such tenant is known" in (await vision.run("budget", "show", unique("nosuch"))).stderr


AUDIT = ("audit", "--since", "1s", "--tenant", "nobody")
KAFKA_SAID = "did not answer within 6 s; check KAFKA_BOOTSTRAP_SERVERS, and whether the broker is frozen"
FROZEN: dict[str, tuple[str, dict[tuple[str, ...], int]]] = {
    # service: (what each command says, the commands with their exit codes)
    "kafka": (KAFKA_SAID, {("trace", "nosuch"): 1, ("dlq", "ls"): 1, AUDIT: 2}),
    "redis": (
        "Redis: no answer in time; check REDIS_URL",
        {("trace", "nosuch"): 1, ("diag", "stats"): 1, ("publish",): 1, AUDIT: 2},
    ),
    "postgres": ("Postgres: no answer in time; check DATABASE_URL", {("posts", "--stuck"): 1, ("cost",): 1, AUDIT: 2}),
    "neo4j": ("Neo4j: ", {AUDIT: 2}),
    "s3": ("S3: no answer in time; check S3_ENDPOINT_URL", {("diag", "stats"): 1, ("publish",): 1, AUDIT: 2}),
    "simulator": ("the simulator of GigaChat at http", {AUDIT: 2}),
}


@pytest.mark.parametrize("service", FROZEN)
async def test_with_a_frozen_service_the_commands_give_up_soon_and_name_it(
    stack: Mapping[str, str], vision: Vision, service: str
) -> None:
    state = read_state(Home(Path(stack["VISION_HOME"])))
    assert state is not None
    process = state.service(service).process
    assert process is not None
    family = psutil.Process(process.pid)
    frozen = [family, *family.children(recursive=True)]
    expected, commands = FROZEN[service]
    for one in frozen:
        one.suspend()
    try:
        for command, code in commands.items():
            began = time.monotonic()
            said = await vision(*command, code=code)
            assert time.monotonic() - began < LIMIT_SECONDS, command
            assert expected in said
            assert len(said.strip().splitlines()) == 1, "one sentence, and no traceback"
    finally:
        for one in frozen:
            one.resume()
