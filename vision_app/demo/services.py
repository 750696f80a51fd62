"""Connections to everything the demo looks into, and the questions it asks of each. Opened once, closed together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
from aiokafka.errors import KafkaError
from asyncpg import PostgresError
from httpx import HTTPError
from neo4j import AsyncDriver, AsyncGraphDatabase
from neo4j.exceptions import DriverError, Neo4jError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from vision_app.settings import Settings
from vision_app.stores.base import SinkUnavailable
from vision_app.stores.postgres import close_pool, create_pool
from vision_app.stores.posts import PostsReader
from vision_app.stores.s3 import S3Error, S3Store

FAULTS = (SinkUnavailable, S3Error, RedisError, KafkaError, PostgresError, DriverError, Neo4jError, HTTPError, OSError)
"""What the services' clients raise when a service is away."""

REQUEST_SECONDS = 5.0
RETRY_SECONDS = 0.25
BUSY = frozenset({502, 503, 504})  # the worker starts, recovers or shares work out anew

POST_IN_GRAPH = """
MATCH (p:Post {tenant_id: $tenant_id, post_id: $post_id})-[r:HAS_IMAGE]->(i:ImageContent)
OPTIONAL MATCH (i)-[:HAS_LABEL]->(l:Label)
RETURN i.sha256 AS sha256, i.simulated AS simulated, r.trace_id AS trace_id, collect(l.name) AS labels
"""


class WorkerAway(Exception):
    """No worker answered until the deadline. See `vision status` and `vision logs worker-1`."""


class Api:
    """The worker's HTTP API. `url` is any one worker's: it forwards to the owner of what is asked for."""

    def __init__(self, url: str, http: httpx.AsyncClient, token: str = "") -> None:
        self.url = url
        self._http = http
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def once(self, path: str) -> tuple[int, dict[str, Any]] | None:
        """Status and body, or None while no worker answers."""
        try:
            answer = await self._http.get(f"{self.url}{path}", headers=self._headers)
            return answer.status_code, answer.json()
        except (HTTPError, ValueError):
            return None

    async def tell(self, path: str, body: dict[str, Any]) -> bool:
        """POST once; False while no worker answers."""
        try:
            return (await self._http.post(f"{self.url}{path}", json=body, headers=self._headers)).is_success
        except HTTPError:
            return False

    async def get(self, path: str, deadline: float) -> tuple[int, dict[str, Any]]:
        """Status and body, asked for again while the worker is away or busy. Raises WorkerAway at the deadline."""
        while (answer := await self.once(path)) is None or answer[0] in BUSY:
            if time.monotonic() >= deadline:
                raise WorkerAway(f"{self.url}{path} does not answer; see `vision status` and `vision logs worker-1`")
            await asyncio.sleep(RETRY_SECONDS)
        return answer


class SimulatorAdmin:
    """The operator's side of the GigaChat simulator: its bill for our client, and faults on request."""

    def __init__(self, settings: Settings, http: httpx.AsyncClient) -> None:
        parts = urlsplit(settings.gigachat_base_url)
        self._url = f"{parts.scheme}://{parts.netloc}/admin"
        self._client = settings.gigachat_client_id
        self._http = http

    async def bill(self) -> dict[str, Any]:
        """`calls`, `in_flight`, `entries` and more; empty before the first call. Raises httpx.HTTPError."""
        answer = (await self._http.get(f"{self._url}/bill")).raise_for_status()
        return dict(answer.json().get(self._client, {}))

    @asynccontextmanager
    async def slow_answers(self, seconds: float, times: int) -> AsyncIterator[None]:
        """The next `times` answers to us take `seconds` longer. At the end all faults are removed."""
        fault = {"kind": "latency", "seconds": seconds}
        rule = {"endpoint": "chat", "client": self._client, "times": times, "fault": fault}
        (await self._http.post(f"{self._url}/faults", json=[rule])).raise_for_status()
        try:
            yield
        finally:
            (await self._http.delete(f"{self._url}/faults")).raise_for_status()


class Graph:
    """What the graph shows of a post."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver

    async def images(self, tenant_id: str, post_id: str) -> list[dict[str, Any]]:
        """One item per picture of the post: `sha256`, `simulated`, `trace_id`, `labels`. Raises neo4j's errors."""
        answer = await self._driver.execute_query(POST_IN_GRAPH, tenant_id=tenant_id, post_id=post_id)
        return [record.data() for record in answer.records]


@dataclass(frozen=True)
class Services:
    """All connections. `graph` is None when it is switched off, `simulator` when GigaChat is real."""

    settings: Settings
    redis: Redis
    s3: S3Store
    posts: PostsReader
    api: Api
    graph: Graph | None
    simulator: SimulatorAdmin | None


@asynccontextmanager
async def connected(settings: Settings, api_url: str) -> AsyncIterator[Services]:
    """Open every connection. Raises SinkUnavailable, StoreUnavailable, or what redis and neo4j raise."""
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(Redis.from_url(settings.redis_url.get_secret_value()))
        s3 = S3Store(settings)
        await s3.open()
        stack.push_async_callback(s3.close)
        pool = await create_pool(settings, application="vision-demo")
        stack.push_async_callback(close_pool, pool)
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=REQUEST_SECONDS, trust_env=False))
        yield Services(
            settings=settings,
            redis=redis,
            s3=s3,
            posts=PostsReader(pool),
            api=Api(api_url, http, token_for_all(settings.vision_api_tokens.get_secret_value().split(","))),
            graph=await _graph(settings, stack) if settings.feature_neo4j_enabled else None,
            simulator=SimulatorAdmin(settings, http) if settings.gigachat_simulated else None,
        )


def token_for_all(pairs: Iterable[str]) -> str:
    """Of `token=tenant` pairs the token that may see all tenants; "" when there is none."""
    split = (pair.strip().rpartition("=") for pair in pairs)
    return next((token for token, _, tenant in split if tenant == "*"), "")


async def _graph(settings: Settings, stack: AsyncExitStack) -> Graph:
    auth = (settings.neo4j_user, settings.neo4j_password.get_secret_value())
    driver = AsyncGraphDatabase.driver(settings.neo4j_uri, auth=auth, telemetry_disabled=True)
    return Graph(await stack.enter_async_context(driver))
