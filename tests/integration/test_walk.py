"""The walk of docs/connecting.md: its blocks, run as they stand against servers that are secured that way."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from tests.integration.pipeline import free_port
from tests.integration.test_secure_kafka import least_rights as kafka_rights
from tests.integration.test_secure_s3 import ACCESS, SECRET, rclone, with_tls
from tests.kafka_broker import PASSWORDS, Broker, grant, pkcs8, secured_broker
from tests.secure_postgres import OWNER, SecurePostgres, open_folder
from tests.secure_postgres import PASSWORD as POSTGRES_PASSWORD
from tests.secure_redis import PASSWORD as REDIS_PASSWORD
from tests.secure_redis import SecureRedis, least_rights
from tests.tls_files import Certificates, make_certificates

ROOT = Path(__file__).parents[2]
WALK = (ROOT / "docs" / "connecting.md").read_text().partition("## A walk")[2].partition("\n## ")[0]
READY_SECONDS = 90


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def kafka(made: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with secured_broker(tmp_path_factory.mktemp("kafka"), made) as broker:
        asyncio.run(grant(broker, [*kafka_rights("vision"), *kafka_rights("maker", create=True)]))
        yield broker


@pytest.fixture(scope="module")
def redis(made: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureRedis]:
    with SecureRedis(tmp_path_factory.mktemp("redis"), made).running() as server:
        server.set_user()
        server.set_user(*least_rights("the operators' commands, beside those")[1:])
        yield server


@pytest.fixture(scope="module")
def postgres(made: Certificates) -> Iterator[SecurePostgres]:
    with open_folder() as folder:
        server = SecurePostgres(folder, made)
        server.prepare()
        with server.running():
            asyncio.run(server.make_roles())
            asyncio.run(server.make_database())
            yield server


@pytest.fixture(scope="module")
def s3(made: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with rclone(tmp_path_factory.mktemp("s3"), *with_tls(made.server)) as port:
        yield port


def blocks() -> list[str]:
    return re.findall(r"```sh\n(.*?)```", WALK, flags=re.DOTALL)


def in_place(text: str, replaced: Mapping[str, str]) -> str:
    for shipped, own in replaced.items():
        text = text.replace(shipped, own)
    return text


def test_the_walk_works_as_it_stands(
    made: Certificates,
    kafka: Broker,
    redis: SecureRedis,
    postgres: SecurePostgres,
    s3: int,
    stack: Mapping[str, str],
    tmp_path: Path,
) -> None:
    client, secret = (stack[f"GIGACHAT_CLIENT_{part}"] for part in ("ID", "SECRET"))
    replaced = {
        "KAFKA-PASSWORD-OF-MAKER": PASSWORDS["maker"],
        "KAFKA-PASSWORD": PASSWORDS["vision"],
        "REDIS-PASSWORD": REDIS_PASSWORD,
        "//owner:OWNER-PASSWORD": f"//{OWNER}:{POSTGRES_PASSWORD}",
        "//vision:POSTGRES-PASSWORD": f"//vision:{POSTGRES_PASSWORD}",
        "S3-KEY-ID": ACCESS,
        "S3-SECRET-KEY": SECRET,
        "GIGACHAT-AUTHORIZATION-KEY": base64.b64encode(f"{client}:{secret}".encode()).decode(),
        "kafka.example:9093": kafka.server("sasl_tls"),
        "redis.example:6379": f"localhost:{redis.port}",
        "postgres.example:5432": f"localhost:{postgres.port}",
        "s3.example:443": f"localhost:{s3}",
    }
    folder = tmp_path / "walk"
    folder.mkdir()
    shutil.copy(made.ca, folder / "ca.pem")
    shutil.copy(made.client[0], folder / "our.pem")
    (folder / "our.key").write_bytes(pkcs8(made.client[1]))
    (folder / "our.key").chmod(0o600)
    program = folder.parent / "bin" / "vision"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom vision_app.cli import main\nmain()\n")
    program.chmod(0o755)
    port = free_port()
    environment = {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        # the simulator stands for GigaChat; ports of other tests' workers stay free
        **{name: stack[name] for name in ("GIGACHAT_BASE_URL", "GIGACHAT_AUTH_URL", "GIGACHAT_SIMULATED")},
        "VISION_API_PORT": str(port),
        "METRICS_PORT": str(free_port()),
    }

    def run(block: str) -> str:
        done = subprocess.run(
            ["sh", "-e", "-c", in_place(block, replaced)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        for hidden in (*PASSWORDS.values(), REDIS_PASSWORD, POSTGRES_PASSWORD, SECRET):
            assert hidden not in done.stdout + done.stderr
        return done.stdout

    secrets, variables, tables_and_topics, start, doctor, first_post = blocks()
    run(secrets)
    run(variables)
    run(tables_and_topics)
    assert start == "vision worker > worker.log 2>&1 &\n"
    with (folder / "worker.log").open("wb") as log:
        worker = subprocess.Popen([program, "worker"], cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not is_ready(port):
            said = (folder / "worker.log").read_text()[-3000:]
            assert worker.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.2)
        run(doctor)
        run(first_post)
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(60)


def is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
