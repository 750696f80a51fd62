"""Connections of the operators' commands, open while one command runs; failures are turned into advice."""

from __future__ import annotations

import asyncio
import getpass
import logging
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
import structlog
from aiokafka.errors import KafkaError
from asyncpg import PostgresError
from httpx import HTTPError
from neo4j.exceptions import DriverError, Neo4jError
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from vision_app.clients.faults import cause_of
from vision_app.clients.neo4j import neo4j_fault
from vision_app.clients.postgres import postgres_fault
from vision_app.clients.redis import ping, redis_client, redis_fault
from vision_app.settings import Settings, vision_home
from vision_app.stack import client
from vision_app.stack.errors import StackError
from vision_app.stack.home import Home
from vision_app.stack.ports import reachable
from vision_app.stack.state import Condition
from vision_app.stores.base import SinkUnavailable
from vision_app.stores.postgres import close_pool, create_pool
from vision_app.stores.s3 import S3Error, S3Store, StoreUnavailable
from vision_app.texts import say

from .api import REQUEST_SECONDS, Api, WorkerAway, token_for_all

Result = TypeVar("Result")

POOL_SIZE = 4
S3_CONNECT_SECONDS = 5.0
REDIS_SECONDS, REDIS_CONNECT_SECONDS = 20.0, 5.0
"""For the answer to a command, which may be all entries of a stream; for the first answer."""
FAULTS = (SinkUnavailable, S3Error, RedisError, KafkaError, PostgresError, DriverError, Neo4jError, HTTPError, OSError)
"""What the services' clients raise when a service is away."""


class OperationError(StackError):
    """The request cannot be carried out. The message says why and what to do instead."""


class RedisUnusable(RedisError):
    """Redis cannot be used. The message names it, and says what to do."""


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a command's work. Raises StackError, with what to do next, when a service it needs is away."""
    before = structlog.get_config()
    quiet = structlog.make_filtering_bound_logger(logging.ERROR)
    structlog.configure(wrapper_class=quiet, logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    kafka = logging.getLogger("aiokafka")
    level = kafka.level
    kafka.setLevel(logging.CRITICAL)  # it logs failed connections: our own message is clearer
    try:
        return asyncio.run(work)
    except StackError:
        raise
    except (WorkerAway, *FAULTS) as fault:
        reason = _explain(fault)
        raise StackError(
            say("{reason}; `vision status` shows what runs, `vision doctor` looks for the cause", reason=reason)
        ) from fault
    finally:
        kafka.setLevel(level)
        structlog.configure(**before)


def _explain(fault: Exception) -> str:
    """What is wrong, in a sentence that names the service."""
    if isinstance(fault, DriverError | Neo4jError):
        return neo4j_fault(fault)
    if isinstance(fault, PostgresError):
        return postgres_fault(fault)
    text = cause_of(fault)
    if isinstance(fault, KafkaError) and "Kafka" not in text:
        return say("Kafka: {text}; check KAFKA_BOOTSTRAP_SERVERS, and that the broker runs", text=text)
    if isinstance(fault, S3Error) and "S3" not in text:
        return say("S3: {text}; check S3_ENDPOINT_URL, and that it runs", text=text)
    return text


@asynccontextmanager
async def redis_of(settings: Settings) -> AsyncIterator[Redis]:
    """Redis, answering with bytes. Raises RedisUnusable, soon if Redis does not answer at all, as when it is frozen."""
    async with redis_client(settings, timeout=REDIS_SECONDS, connect_timeout=REDIS_CONNECT_SECONDS) as redis:
        try:
            await _first_answer(redis)
            yield redis
        except RedisError as fault:
            raise RedisUnusable(redis_fault(fault, settings)) from fault


async def _first_answer(redis: Redis) -> None:
    """Raises RedisError. A refused PING is an answer, too."""
    try:
        async with asyncio.timeout(REDIS_CONNECT_SECONDS):
            await ping(redis)
    except NoPermissionError:
        return
    except TimeoutError as fault:
        raise RedisTimeoutError(say("no answer")) from fault


@asynccontextmanager
async def s3_of(settings: Settings) -> AsyncIterator[S3Store]:
    """The bucket. Raises StoreMisconfigured without keys, StoreUnavailable soon if S3 does not answer at all."""
    s3 = S3Store(settings)
    await s3.open()
    try:
        await _first_answer_of_s3(s3)
        yield s3
    finally:
        await s3.close()


async def _first_answer_of_s3(s3: S3Store) -> None:
    """Raises StoreUnavailable. A refusal, or that there is no bucket, is an answer, too."""
    try:
        async with asyncio.timeout(S3_CONNECT_SECONDS):
            await s3.has_bucket()
    except TimeoutError as fault:
        text = say("S3: no answer in time; check S3_ENDPOINT_URL, the network and that it runs")
        raise StoreUnavailable(text) from fault
    except S3Error as fault:
        if isinstance(fault, StoreUnavailable):
            raise


@asynccontextmanager
async def postgres_of(settings: Settings) -> AsyncIterator[Any]:
    """A pool of connections. Raises SinkUnavailable."""
    pool = await create_pool(settings, size=POOL_SIZE, application="vision-cli")
    try:
        yield pool
    finally:
        await close_pool(pool)


@asynccontextmanager
async def api_of(settings: Settings) -> AsyncIterator[Api]:
    """The HTTP API of a worker, with the token that may see every tenant if there is one."""
    token = token_for_all(settings.vision_api_tokens.get_secret_value().split(","))
    async with httpx.AsyncClient(timeout=REQUEST_SECONDS, trust_env=False) as http:
        yield Api(api_url(settings), http, token)


def api_url(settings: Settings) -> str:
    """The address of a worker: one of the embedded stack, else the one in the settings."""
    state = client.live_state(Home(vision_home()))
    workers = [service for service in state.services if service.is_worker] if state else []
    urls = [w.url for w in workers if w.condition is Condition.READY] or [w.url for w in workers]
    return urls[0] if urls else f"http://{reachable(settings.vision_api_host)}:{settings.vision_api_port}"


def operator() -> str:
    """The user who runs the command, for the records of operators' actions."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"  # a container's user without a name
