"""`vision doctor` against real services: what is wrong is found and comes with what to do."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from redis import Redis

from tests.integration.pipeline import unique
from vision_app.kafka_topics import create_topics
from vision_app.settings import load_settings
from vision_app.stack.client import running_stack
from vision_app.streams.dead_letters import Origin, dead_letter

UNREACHABLE = {
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "DATABASE_URL": "postgresql://postgres@127.0.0.1:1/postgres",
    "NEO4J_URI": "bolt://127.0.0.1:1",
    "S3_ENDPOINT_URL": "http://127.0.0.1:1",
    "GIGACHAT_BASE_URL": "http://127.0.0.1:1/api/v1",
}


def findings(variables: dict[str, str]) -> tuple[int, dict[str, tuple[str, str]]]:
    """The exit code, and per check the verdict and its detail."""
    command = [sys.executable, "-c", "from vision_app.cli import main; main()", "doctor", "--json"]
    environment = os.environ | {"VISION_API_PORT": "0", "METRICS_PORT": "0"} | variables
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert outcome.stderr == ""
    return outcome.returncode, {f["check"]: (f["verdict"], f["detail"]) for f in json.loads(outcome.stdout)}


def test_a_healthy_stack_lacks_only_its_worker(stack: dict[str, str]) -> None:
    """The stack of the tests has no worker: then no post is analyzed, and that is a failure."""
    code, found = findings({"VISION_HOME": stack["VISION_HOME"], "KAFKA_APP_ID": "nobody"})
    failed = {check for check, (verdict, _) in found.items() if verdict == "failed"}
    assert (code, failed - {"kafka"}) == (1, {"worker"}), "kafka: an app of this name has no changelogs"
    assert "none is connected to Kafka" in found["worker"][1]
    assert found["redis"] == ("ok", "answers, never evicts")
    assert found["neo4j"] == ("ok", "answers, the password is right")


def test_a_wrong_password_is_reported(stack: dict[str, str]) -> None:
    code, found = findings(stack | {"NEO4J_PASSWORD": "something-else"})
    verdict, detail = found["neo4j"]
    assert (code, verdict) == (1, "failed")
    assert "NEO4J_PASSWORD must be the one that its data was made with" in detail


def test_missing_and_refused_credentials_of_gigachat_are_reported(tmp_path: Path) -> None:
    """The guide's checklist: they are configured."""
    mine, home = ("GIGACHAT_CLIENT_ID", "GIGACHAT_CLIENT_SECRET"), {"VISION_HOME": str(tmp_path / "empty")}
    with running_stack(tmp_path, services=("simulator",)) as variables:
        where = {name: variables[name] for name in ("GIGACHAT_BASE_URL", "GIGACHAT_AUTH_URL")} | home
        code, none = findings(where)
        _, wrong = findings(where | dict.fromkeys(mine, "another"))
        _, right = findings(where | {name: variables[name] for name in mine})
    assert (code, none["gigachat"][0], wrong["gigachat"][0]) == (1, "failed", "failed")
    assert "set GIGACHAT_CREDENTIALS or GIGACHAT_CLIENT_ID and GIGACHAT_CLIENT_SECRET" in none["gigachat"][1]
    assert "the credentials are refused" in wrong["gigachat"][1]
    assert right["gigachat"][0] == "ok", right
    assert "the credentials are accepted" in right["gigachat"][1]


async def test_a_postgres_user_without_rights_is_reported(stack: dict[str, str]) -> None:
    owner = await asyncpg.connect(stack["DATABASE_URL"])
    await owner.execute("DROP ROLE IF EXISTS doctors_guest")
    await owner.execute("CREATE ROLE doctors_guest LOGIN")
    await owner.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    try:
        guest = make_url(stack["DATABASE_URL"], "doctors_guest")
        code, found = await asyncio.to_thread(findings, stack | {"DATABASE_URL": guest})
    finally:
        await owner.execute("DROP ROLE doctors_guest")
        await owner.close()
    assert (code, found["postgres"][0]) == (1, "failed")
    # the first while there are no tables, the second when another test has made them
    assert re.search("GRANT CREATE|run `vision migrate apply` with DATABASE_OWNER_URL", found["postgres"][1])


def make_url(url: str, user: str) -> str:
    """The same database, asked as somebody else."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{user}@{parts.netloc.rpartition('@')[2]}"))


def test_each_unreachable_service_names_the_variable_to_check(tmp_path: Path) -> None:
    code, found = findings(UNREACHABLE | {"VISION_HOME": str(tmp_path)})
    assert code == 1
    for name, variable in zip(("kafka", "postgres", "neo4j", "s3", "gigachat"), UNREACHABLE, strict=True):
        verdict, detail = found[name]
        assert verdict == "failed"
        assert variable in detail
    assert found["redis"][0] == "hint"  # embedded, not started


def test_a_redis_that_evicts_is_a_failure(tmp_path: Path) -> None:
    with running_stack(tmp_path, services=("redis",)) as variables:
        with Redis.from_url(variables["REDIS_URL"]) as redis:
            redis.config_set("maxmemory-policy", "allkeys-lru")
        _, found = findings(UNREACHABLE | variables)
    verdict, detail = found["redis"]
    assert verdict == "failed"
    assert "CONFIG SET maxmemory-policy noeviction" in detail


async def test_a_worker_elsewhere_and_letters_that_wait_are_told(stack: dict[str, str]) -> None:
    """An external deployment: no worker answers at our address, and Kafka knows one of another machine."""
    own = stack | {"KAFKA_APP_ID": unique("elsewhere")}
    await create_topics(load_settings(**{name.lower(): value for name, value in own.items()}))
    member = AIOKafkaConsumer(
        "vision.posts", bootstrap_servers=stack["KAFKA_BOOTSTRAP_SERVERS"], group_id=own["KAFKA_APP_ID"]
    )
    letter = dead_letter(Origin(unique("letter"), "vision.posts", 0), b"{}", "a test")
    async with member, AIOKafkaProducer(bootstrap_servers=stack["KAFKA_BOOTSTRAP_SERVERS"]) as producer:
        await producer.send_and_wait("vision.dlq", letter.model_dump_json().encode())
        while not member.assignment():
            await asyncio.sleep(0.1)
        _, found = await asyncio.to_thread(findings, own)
    assert (found["worker"][0], "1 are connected to Kafka, from 127.0.0.1" in found["worker"][1]) == ("hint", True)
    assert (found["dead letters"][0], "`vision dlq ls`" in found["dead letters"][1]) == ("hint", True)
    assert found["bucket"][0] in ("ok", "hint")
