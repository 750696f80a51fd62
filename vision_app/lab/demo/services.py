"""Connections to all services that the demo checks, with the queries it needs. Opened once, closed together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
from neo4j import AsyncDriver
from redis.asyncio import Redis

from vision_app.clients.neo4j import neo4j_driver
from vision_app.clients.redis import redis_client
from vision_app.operations.api import REQUEST_SECONDS, Api, token_for_all
from vision_app.settings import Settings
from vision_app.stores.postgres import close_pool, create_pool
from vision_app.stores.posts import PostsReader
from vision_app.stores.s3 import S3Store

POST_IN_GRAPH = """
MATCH (p:Post {tenant_id: $tenant_id, post_id: $post_id})-[r:HAS_IMAGE]->(i:ImageContent)
OPTIONAL MATCH (i)-[:HAS_LABEL]->(l:Label)
RETURN i.sha256 AS sha256, i.simulated AS simulated, r.trace_id AS trace_id, collect(l.name) AS labels
"""


class SimulatorAdmin:
    """The simulator's API for operators: the bill of our client, and faults on request."""

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
        """The next `times` answers to our client take `seconds` longer. At the end all faults are removed."""
        fault = {"kind": "latency", "seconds": seconds}
        rule = {"endpoint": "chat", "client": self._client, "times": times, "fault": fault}
        (await self._http.post(f"{self._url}/faults", json=[rule])).raise_for_status()
        try:
            yield
        finally:
            (await self._http.delete(f"{self._url}/faults")).raise_for_status()


class Graph:
    """Reads a post's part of the graph."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver

    async def images(self, tenant_id: str, post_id: str) -> list[dict[str, Any]]:
        """One item per picture of the post: `sha256`, `simulated`, `trace_id`, `labels`. Raises neo4j's errors."""
        answer = await self._driver.execute_query(POST_IN_GRAPH, tenant_id=tenant_id, post_id=post_id)
        return [record.data() for record in answer.records]


@dataclass(frozen=True)
class DemoServices:
    """All connections. `graph` is None when it is switched off, `simulator` when GigaChat is real."""

    settings: Settings
    redis: Redis
    s3: S3Store
    posts: PostsReader
    api: Api
    graph: Graph | None
    simulator: SimulatorAdmin | None


@asynccontextmanager
async def connected(settings: Settings, api_url: str) -> AsyncIterator[DemoServices]:
    """Open every connection. Raises SinkUnavailable, StoreUnavailable, or what redis and neo4j raise."""
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(redis_client(settings))
        s3 = S3Store(settings)
        await s3.open()
        stack.push_async_callback(s3.close)
        pool = await create_pool(settings, application="vision-demo")
        stack.push_async_callback(close_pool, pool)
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=REQUEST_SECONDS, trust_env=False))
        yield DemoServices(
            settings=settings,
            redis=redis,
            s3=s3,
            posts=PostsReader(pool),
            api=Api(api_url, http, token_for_all(settings.vision_api_tokens.get_secret_value().split(","))),
            graph=await _graph(settings, stack) if settings.feature_neo4j_enabled else None,
            simulator=SimulatorAdmin(settings, http) if settings.gigachat_simulated else None,
        )


async def _graph(settings: Settings, stack: AsyncExitStack) -> Graph:
    return Graph(await stack.enter_async_context(neo4j_driver(settings)))
