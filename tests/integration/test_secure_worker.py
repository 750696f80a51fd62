"""A worker with all of it at once: Redis behind Sentinels over TLS with a user of least rights, Postgres over verified
TLS with a role of least rights, through pgbouncer. Rights go and come back, and Redis' master moves, while it runs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import orjson
import pytest
import redis as sync_redis

from tests.integration.pipeline import Pipeline, Worker, picture, pipeline, unique
from tests.secure_postgres import OWNER, WORKER, SecurePostgres, open_folder, pgbouncer
from tests.secure_redis import ADMIN, MASTER, PASSWORD, SecureRedis, least_rights, sentinel, wait_until
from tests.tls_files import make_certificates
from vision_app.operations import foundations
from vision_app.settings import Settings, load_settings
from vision_app.stack.reachable import postgres, redis

MAX_DELIVERIES, ROUNDS = 2, 5
EFFECT_SECONDS = 60


@dataclass
class Secured:
    """The servers, and the variables with which the worker reaches them."""

    first: SecureRedis
    second: SecureRedis
    sentinel_port: int
    postgres: SecurePostgres
    variables: Mapping[str, str]

    def settings(self, **changes: Any) -> Settings:
        return load_settings(**{**{name.lower(): value for name, value in self.variables.items()}, **changes})

    @property
    def master(self) -> int:
        """The port of Redis' master, as the Sentinel says."""
        made = self.first.made
        with sync_redis.Redis(
            host="localhost",
            port=self.sentinel_port,
            password=ADMIN,
            ssl=True,
            ssl_ca_certs=str(made.ca),
            ssl_certfile=str(made.client[0]),
            ssl_keyfile=str(made.client[1]),
        ) as client:
            found: Any = client.sentinel_get_master_addr_by_name(MASTER)
            return int(found[1])

    def give_both(self, *rights: str) -> None:
        """Change the rights on both servers: users are not replicated. Without arguments: the least rights."""
        for server in (self.first, self.second):
            server.set_user(*rights)
            if not rights:
                server.set_user(*least_rights("behind Sentinels, beside those")[1:])


@pytest.fixture(scope="module")
def secured(stack: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    made = make_certificates(tmp_path_factory.mktemp("certificates"))
    with ExitStack() as opened:
        first = opened.enter_context(SecureRedis(tmp_path_factory.mktemp("first"), made).running())
        second = SecureRedis(tmp_path_factory.mktemp("second"), made)
        second.master = first
        opened.enter_context(second.running())
        watching = opened.enter_context(sentinel(tmp_path_factory.mktemp("sentinel"), first, ADMIN))
        database = SecurePostgres(opened.enter_context(open_folder()), made)
        database.prepare()
        opened.enter_context(database.running())
        asyncio.run(_make_database(database))
        pooled = opened.enter_context(pgbouncer(database))
        own = {
            "REDIS_URL": f"rediss://vision:{PASSWORD}@unused.example/0",
            "REDIS_SENTINELS": f"localhost:1,localhost:{watching}",
            "REDIS_SENTINEL_MASTER": MASTER,
            "REDIS_SENTINEL_PASSWORD": ADMIN,
            "REDIS_CA_FILE": str(made.ca),
            "REDIS_CERT_FILE": str(made.client[0]),
            "REDIS_KEY_FILE": str(made.client[1]),
            "DATABASE_URL": database.url(options=f"sslmode=verify-full&sslrootcert={made.ca}", port=pooled),
            "DATABASE_SESSION_URL": database.url(),
            "DATABASE_PGBOUNCER": "true",
            "KAFKA_APP_ID": unique("secure"),
        }
        found = Secured(first, second, watching, database, {**stack, **own})
        found.give_both()
        owner = found.settings(database_owner_url=database.url(OWNER))
        asyncio.run(foundations.apply(owner))
        assert asyncio.run(foundations.grant(owner)) == (WORKER, [])
        yield found


async def _make_database(server: SecurePostgres) -> None:
    await server.make_roles()
    await server.make_database()


@pytest.fixture(scope="module")
def worker(secured: Secured, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    own = {"FEATURE_NEO4J_ENABLED": "false", "VISION_MAX_DELIVERIES": str(MAX_DELIVERIES)}
    running = Worker(secured.variables, tmp_path_factory.mktemp("logs"), 1, **own)
    running.start()
    yield running
    running.end()


@pytest.fixture
async def pipe(secured: Secured, worker: Worker) -> AsyncIterator[Pipeline]:
    """The neighbours, who may do everything in Redis."""
    await worker.ready()
    neighbour = secured.settings(redis_url=f"rediss://:{ADMIN}@unused.example/0")
    async with pipeline(neighbour) as opened:
        yield opened


async def until(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline = time.monotonic() + EFFECT_SECONDS
    while not await holds():
        assert time.monotonic() < deadline, f"{what} did not come"
        await asyncio.sleep(0.1)


async def post(pipe: Pipeline) -> str:
    tenant, name = unique("tenant"), unique("post")
    await pipe.publish(tenant, name, [await pipe.upload(tenant, picture())])
    return name


async def retries(worker: Worker) -> float:
    async with httpx.AsyncClient(trust_env=False) as client:
        page = (await client.get(f"{worker.metrics_url}/metrics")).text
    lines = [line for line in page.splitlines() if line.startswith("vision_retries_total") and 'stage="redis"' in line]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


async def no_dead_letters(pipe: Pipeline) -> None:
    assert await pipe.redis.xlen(pipe.settings.vision_dlq_stream) == 0


async def test_a_post_goes_through_and_the_bucket_is_counted(secured: Secured, pipe: Pipeline, worker: Worker) -> None:
    since = await pipe.newest()
    name = await post(pipe)
    await pipe.announced([name], since)
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = (await client.get(f"{worker.url}/api/v1/vision/posts/{name}")).raise_for_status()
    assert name in answer.text

    async def counted() -> bool:
        connection = await asyncpg.connect(secured.postgres.url())
        try:
            return await connection.fetchval("SELECT counted_at FROM storage_state") is not None
        finally:
            await connection.close()

    await until(counted, "a count of the bucket")
    assert await redis(secured.settings()) == "answers, never evicts"
    assert (await postgres(secured.settings())).endswith("all tables are there")


async def test_entries_wait_while_a_right_in_redis_is_missing(secured: Secured, pipe: Pipeline, worker: Worker) -> None:
    since, before = await pipe.newest(), await retries(worker)
    secured.give_both("-xack")
    try:
        name = await post(pipe)

        async def tried_often() -> bool:
            return await retries(worker) >= before + ROUNDS

        await until(tried_often, "tries without the right")
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{worker.url}/readyz")
        assert answer.status_code == 503
        assert "lacks rights" in answer.text
        assert "'xack'" in answer.text
    finally:
        secured.give_both()
    await pipe.announced([name], since)
    await worker.ready()
    await no_dead_letters(pipe)


async def test_rows_wait_while_a_right_in_postgres_is_missing(secured: Secured, pipe: Pipeline, worker: Worker) -> None:
    since = await pipe.newest()
    await secured.postgres.execute(f"REVOKE INSERT ON post_enrichment FROM {WORKER}", user=OWNER, database="vision")
    name = await post(pipe)

    async def said() -> bool:
        return "permission denied for table post_enrichment; run `vision migrate apply`" in worker.log()

    await until(said, "the sentence about the right")
    await secured.postgres.execute(f"GRANT INSERT ON post_enrichment TO {WORKER}", user=OWNER, database="vision")
    await pipe.announced([name], since)
    await no_dead_letters(pipe)


async def test_nothing_is_lost_when_the_master_moves(secured: Secured, pipe: Pipeline, worker: Worker) -> None:
    names, old = [await post(pipe) for _ in range(5)], secured.master
    wait_until(lambda: _replicated(secured.first), "a replica with all posts")
    await asyncio.to_thread(_fail_over, secured)
    assert secured.master != old
    await pipe.redis.aclose()

    async def written() -> bool:
        try:
            names.append(await post(pipe))
        except sync_redis.RedisError:
            return False
        return True

    async def announced() -> bool:
        try:
            await pipe.announced(names, "0")
        except sync_redis.RedisError:  # the old master may still close connections
            return False
        return True

    await until(written, "a post on the new master")
    await until(announced, "all announcements")
    await worker.ready()
    await no_dead_letters(pipe)


def test_a_cluster_ends_the_start_with_one_sentence(secured: Secured, stack: Mapping[str, str], tmp_path: Path) -> None:
    cluster = SecureRedis(tmp_path, secured.first.made)
    cluster.cluster = True
    with cluster.running():
        cluster.set_user()
        own = {name.upper(): str(value) for name, value in cluster.settings().items()}
        refused = Worker({**stack, **own}, tmp_path, 2, KAFKA_APP_ID=unique("secure"))
        refused.start()
        try:
            wait_until(lambda: not refused.alive, "the end of the start", EFFECT_SECONDS)
        finally:
            refused.end()
    said = [line for line in refused.log().splitlines() if '"level":"error"' in line]
    assert len(said) == 1, said
    assert "worker_start_failed" in said[0]
    assert "the server is part of a Redis Cluster" in said[0]
    assert "exc_type" not in refused.log()
    assert "Traceback" not in refused.log()


def test_no_secret_is_in_the_log(worker: Worker) -> None:
    """Its group is new, so it also reads what other tests left on the topics; tracebacks of those are theirs."""
    assert not {secret for secret in (ADMIN, PASSWORD) if secret in worker.log()}
    assert "Traceback" not in worker.log()
    lines = [orjson.loads(line) for line in worker.log().splitlines() if "exc_type" in line]
    assert [line for line in lines if line["tenant_id"].startswith(("-", "tenant-"))] == []


def _replicated(server: SecureRedis) -> bool:
    """Whether the replica has all that the master had when asked: what producers write is not ours to confirm."""
    with server.admin() as client:
        told: Any = client.info("replication")
        asked = int(told["master_repl_offset"])
        while told.get("slave0", {}).get("state") == "online":
            if int(told["slave0"]["offset"]) >= asked:
                return True
            told = client.info("replication")
        return False


def _fail_over(secured: Secured) -> None:
    made, old = secured.first.made, secured.master
    with sync_redis.Redis(
        host="localhost",
        port=secured.sentinel_port,
        password=ADMIN,
        ssl=True,
        ssl_ca_certs=str(made.ca),
        ssl_certfile=str(made.client[0]),
        ssl_keyfile=str(made.client[1]),
    ) as client:

        def begun() -> bool:
            try:
                client.execute_command("SENTINEL", "FAILOVER", MASTER)
            except sync_redis.ResponseError:  # it does not know the replica yet
                return False
            return True

        wait_until(begun, "the failover's begin")
        wait_until(lambda: secured.master != old, "the new master")
