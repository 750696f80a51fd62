"""A worker whose every secret is a canary, most of them wrong, so that every client complains: none is found anywhere.

Looked through: the log, every record of every Kafka topic, everything in Redis, metrics, pages, and what the commands
print. That texts made of the settings hold none is tests/unit/test_secrets.py.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from redis.asyncio import Redis

from tests.integration.pipeline import Pipeline, Worker, picture, pipeline, unique
from vision_app.settings import Settings, load_settings
from vision_app.stack.reachable import Unreachable, postgres, redis, s3
from vision_app.stores.base import SinkUnavailable
from vision_app.stores.postgres import create_pool
from vision_app.stores.s3 import S3Error, S3Store

NAMES = ("database", "redis", "neo4j", "gigachat", "token", "s3")
CANARIES = {name: f"canary{name}{uuid4().hex}" for name in NAMES}
COMPLAINTS = ("Neo4j refuses the password", "gigachat_token_failed", "dead_lettered")
COMMANDS = (["doctor"], ["status"], ["config"], ["config", "--json"], ["diag", "--post-id", "nothing"], ["dlq", "ls"])


def variables(stack: dict[str, str]) -> dict[str, str]:
    """What leads to the services, with canaries for credentials. Redis and Postgres here take any password, and S3's
    are the real ones: without these three nothing would come as far as GigaChat and the graph.
    """
    database, cache = urlsplit(stack["DATABASE_URL"]), urlsplit(stack["REDIS_URL"])
    return {
        **stack,
        "DATABASE_URL": f"postgresql://{database.username}:{CANARIES['database']}@{database.netloc.rpartition('@')[2]}{database.path}",
        "REDIS_URL": f"redis://default:{CANARIES['redis']}@{cache.netloc}{cache.path}",
        "NEO4J_USER": "nobody",
        "NEO4J_PASSWORD": CANARIES["neo4j"],
        "GIGACHAT_CLIENT_ID": "",
        "GIGACHAT_CLIENT_SECRET": "",
        "GIGACHAT_CREDENTIALS": CANARIES["gigachat"],
        "VISION_API_TOKENS": f"{CANARIES['token']}=*",
        "LOG_LEVEL": "DEBUG",
    }


@pytest.fixture(scope="module")
def worker(stack: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    running = Worker(variables(stack), tmp_path_factory.mktemp("canaries"), 1)
    running.start()
    yield running
    running.end()


def secrets(stack: dict[str, str]) -> dict[str, str]:
    """The canaries, and the one real secret among them."""
    return {**CANARIES, "s3": stack["S3_SECRET_ACCESS_KEY"]}


def held(text: str, stack: dict[str, str]) -> set[str]:
    """Which secrets a text holds."""
    return {name for name, secret in secrets(stack).items() if secret in text}


async def test_no_canary_leaves_a_worker_that_every_service_refuses(
    stack: dict[str, str], stack_settings: Settings, worker: Worker, tmp_path: Path
) -> None:
    started_ms = round(time.time() * 1000)
    await worker.ready()
    async with pipeline(stack_settings) as pipe:
        await provoke(pipe, worker)
        pages = await ask(worker)
        streams = await everything_in(pipe.redis)
    records = await records_since(stack_settings, started_ms)
    assert {"vision.dlq", "vision.media", "vision.analysis"} <= set(records), "there is something to be looked through"
    assert not held(worker.log(), stack)
    assert not held(pages, stack)
    assert not held(streams, stack)
    assert not held("\n".join(records.values()), stack)
    for command in COMMANDS:
        printed = await asyncio.to_thread(run, command, variables(stack), tmp_path)
        assert printed.strip(), command
        assert not held(printed, stack), command


async def provoke(pipe: Pipeline, worker: Worker) -> None:
    """Let every client that is refused complain: wait until the log has a line of each."""
    tenant = unique("canary")
    await pipe.publish(tenant, tenant, [await pipe.upload(tenant, picture())])
    await pipe.redis.xadd(pipe.settings.input_streams[0], {"event": "posts.vision.uploaded", "data": "{"})
    async with asyncio.timeout(60):
        while missing := [text for text in COMPLAINTS if text not in worker.log()]:
            assert worker.alive, missing
            await asyncio.sleep(0.2)


async def ask(worker: Worker) -> str:
    """Every page that can be read, with the right token, a wrong one and none, and the metrics."""
    texts = []
    async with httpx.AsyncClient(base_url=worker.url, trust_env=False, timeout=30) as client:
        document = (await client.get("/openapi.json")).json()
        for path, methods in document["paths"].items():
            url = path.replace("{number}", "0").replace("{", "").replace("}", "")
            for token in (CANARIES["token"], CANARIES["token"] + "x", ""):
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                if "get" in methods:
                    endless = {"seconds": "1"} if url == "/api/v1/changes" else {}
                    answer = await client.get(url, headers=headers, params=endless)
                    texts.append(f"{answer.headers} {answer.text}")
        texts += [str(document), (await client.get(f"{worker.metrics_url}/metrics")).text]
    return "\n".join(texts)


async def everything_in(cache: Redis) -> str:
    texts = []
    async for key in cache.scan_iter():
        kind = await cache.type(key)
        if kind == b"stream":
            texts.append(str(await cache.xrevrange(key, count=200)))
        elif kind == b"string":
            texts.append(str(await cache.get(key)))
        texts.append(str(key))
    return "\n".join(texts)


async def partitions(settings: Settings) -> list[TopicPartition]:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    await admin.start()
    try:
        found = await admin.describe_topics(await admin.list_topics())
    finally:
        await admin.close()
    return [
        TopicPartition(topic["topic"], partition["partition"])
        for topic in found
        for partition in topic["partitions"]
        if not topic["topic"].startswith("__")
    ]


async def records_since(settings: Settings, started_ms: int) -> dict[str, str]:
    """By topic, keys, values and headers of what came to it."""
    texts: defaultdict[str, str] = defaultdict(str)
    places = await partitions(settings)
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap_servers, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign(places)
        starts = await consumer.offsets_for_times(dict.fromkeys(places, started_ms))
        ends = await consumer.end_offsets(places)
        left = {
            place: ends[place] for place, start in starts.items() if start is not None and start.offset < ends[place]
        }
        for place in left:
            consumer.seek(place, starts[place].offset)
        consumer.pause(*(set(places) - set(left)))
        async with asyncio.timeout(30):
            while left:
                for place, batch in (await consumer.getmany(timeout_ms=500)).items():
                    texts[place.topic] += "".join(f"{r.key!r} {r.value!r} {r.headers!r}\n" for r in batch)
                left = {place: end for place, end in left.items() if await consumer.position(place) < end}
    finally:
        await consumer.stop()
    return texts


def run(command: list[str], given: dict[str, str], home: Path) -> str:
    """What a command prints with these variables, whatever its exit code."""
    environment = {**os.environ, **given, "VISION_HOME": str(home), "COLUMNS": "400"}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("vision")), *command],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


async def test_refusals_by_s3_redis_and_postgres_do_not_repeat_the_credentials(stack: dict[str, str]) -> None:
    """These three would have kept the worker from doing anything worth looking at."""
    given = {name.lower(): value for name, value in stack.items()}
    cache, database = urlsplit(stack["REDIS_URL"]), urlsplit(stack["DATABASE_URL"])
    address = f"{database.netloc.rpartition('@')[2]}{database.path}"
    wrong = load_settings(
        **{
            **given,
            "s3_secret_access_key": CANARIES["s3"],
            "redis_url": f"redis://nobody:{CANARIES['redis']}@{cache.netloc}{cache.path}",
            "database_url": f"postgresql://nobody:{CANARIES['database']}@{address}",
        }
    )
    told = []
    for probe in (redis, s3, postgres):
        with pytest.raises(Unreachable) as refused:
            await probe(wrong)
        told.append(f"{refused.value!r} {refused.value.__cause__!r}")
    store = S3Store(wrong)
    await store.open()
    with pytest.raises(S3Error) as fault:
        await store.head("media/nobody/x")
    await store.close()
    with pytest.raises(SinkUnavailable) as away:
        await create_pool(wrong)
    told += [f"{error!r} {error.__cause__!r}" for error in (fault.value, away.value)]
    assert not held("\n".join(told), stack)
