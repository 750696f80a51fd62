"""`vision doctor` against real services: what is wrong is found and comes with what to do."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from redis import Redis

from vision_app.stack.client import running_stack

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


def test_a_healthy_stack_has_nothing_to_do(stack: dict[str, str]) -> None:
    code, found = findings({"VISION_HOME": stack["VISION_HOME"]})
    assert {verdict for verdict, _ in found.values()} <= {"ok", "hint"}
    assert code == 0
    assert found["redis"] == ("ok", "answers, never evicts")
    assert found["neo4j"] == ("ok", "answers, the password is right")


def test_a_wrong_password_is_reported(stack: dict[str, str]) -> None:
    code, found = findings(stack | {"NEO4J_PASSWORD": "something-else"})
    verdict, detail = found["neo4j"]
    assert (code, verdict) == (1, "failed")
    assert "NEO4J_PASSWORD must be the one its data was made with" in detail


def test_missing_and_refused_credentials_of_gigachat_are_reported(tmp_path: Path) -> None:
    """The guide's checklist: they are configured."""
    mine, home = ("GIGACHAT_CLIENT_ID", "GIGACHAT_CLIENT_SECRET"), {"VISION_HOME": str(tmp_path / "empty")}
    with running_stack(tmp_path, services=("simulator",)) as variables:
        where = {name: variables[name] for name in ("GIGACHAT_BASE_URL", "GIGACHAT_AUTH_URL")} | home
        code, none = findings(where)
        _, wrong = findings(where | dict.fromkeys(mine, "another"))
        _, right = findings(where | {name: variables[name] for name in mine})
    assert (code, none["simulator"][0], wrong["simulator"][0]) == (1, "failed", "failed")
    assert "set GIGACHAT_CREDENTIALS or GIGACHAT_CLIENT_ID and GIGACHAT_CLIENT_SECRET" in none["simulator"][1]
    assert "the credentials are refused" in wrong["simulator"][1]
    assert right["simulator"][0] == "ok", right
    assert "the credentials are accepted" in right["simulator"][1]


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
    assert "GRANT CREATE" in found["postgres"][1]


def make_url(url: str, user: str) -> str:
    """The same database, asked as somebody else."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{user}@{parts.netloc.rpartition('@')[2]}"))


def test_each_unreachable_service_names_the_variable_to_check(tmp_path: Path) -> None:
    code, found = findings(UNREACHABLE | {"VISION_HOME": str(tmp_path)})
    assert code == 1
    for name, variable in zip(("kafka", "postgres", "neo4j", "s3", "simulator"), UNREACHABLE, strict=True):
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
