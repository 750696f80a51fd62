"""Finds the worker that owns a key, and asks it. Tables are read by key on their owner, never listed."""

from __future__ import annotations

from typing import Any, TypeVar

import aiohttp
import orjson
import structlog
from aiohttp import web
from pydantic import ValidationError
from yarl import URL

from vision_app.streams.faust_seams import fetch_metadata
from vision_app.telemetry import metrics
from vision_app.texts import say

from .errors import TRACE, TRACE_HEADER, ApiError
from .models import Answer
from .worker import ServedWorker

log = structlog.get_logger(__name__)

FORWARDED = "X-Vision-Forwarded"
FORWARD_TIMEOUT = aiohttp.ClientTimeout(total=5)

Forwarded = TypeVar("Forwarded", bound=Answer)


async def from_owner(app: ServedWorker, table: Any, key: bytes, request: web.Request) -> web.Response | None:
    """The owner's answer to a GET of this request's URL. None if this worker is the owner and has to answer.

    Raises ApiError 503 while the owner is unknown.
    """
    owner = await _other_owner(app, table, key, request)
    return None if owner is None else await _forward(app, owner, request, request.url)


async def ask_owner(
    app: ServedWorker, table: Any, key: bytes, request: web.Request, url: str, model: type[Forwarded]
) -> Forwarded | None:
    """The owner's answer to a GET of `url` (path and query) as its model. None if this worker is the owner itself.

    For pages that show what another page answers. The request's own token is used. Raises ApiError: the owner's errors,
    and 503 while the owner is unknown.
    """
    owner = await _other_owner(app, table, key, request)
    return None if owner is None else parsed(await _forward(app, owner, request, _elsewhere(request, url)), model)


async def owner_of(app: ServedWorker, table: Any, key: bytes) -> URL | None:
    """The URL of the worker that owns the key; None if it is this worker. Raises ApiError 503 while that is unknown."""
    if not app.serving():
        raise unclear()
    owner = await _owner(app, table, key)
    return None if _same(owner, app.conf.canonical_url) else owner


def other_workers(app: ServedWorker) -> list[URL]:
    """The URLs of the group's other workers, as the last rebalance told them."""
    here = app.conf.canonical_url
    found = {URL(str(url)) for url in app.router.tables_metadata()}
    return sorted((url for url in found if not _same(url, here)), key=str)


async def ask_worker(
    app: ServedWorker, worker: URL, request: web.Request, url: str, model: type[Forwarded]
) -> Forwarded:
    """A worker's answer to a GET of `url` (path and query) as its model. Raises ApiError."""
    return parsed(await _forward(app, worker, request, _elsewhere(request, url)), model)


def _elsewhere(request: web.Request, url: str) -> URL:
    return URL(f"{request.url.origin()}{url}", encoded=True)


def parsed(answer: web.Response, model: type[Forwarded]) -> Forwarded:
    """A forwarded answer as its model. Raises ApiError with the owner's error, or 503 if it is neither."""
    body = answer.body if isinstance(answer.body, bytes) else b""
    try:
        if answer.status < 400:
            return model.model_validate_json(body)
        error = orjson.loads(body)["error"]
        raise ApiError(answer.status, str(error["code"]), str(error["message"]), **dict(error.get("details") or {}))
    except (ValidationError, orjson.JSONDecodeError, KeyError, TypeError) as fault:
        log.warning("key_owner_unreadable", status=answer.status, error=type(fault).__name__)
        raise unclear() from fault


async def _other_owner(app: ServedWorker, table: Any, key: bytes, request: web.Request) -> URL | None:
    owner = await owner_of(app, table, key)
    if owner is not None and request.headers.get(FORWARDED):
        raise unclear()  # two workers disagree: the group is being rebalanced
    return owner


async def _owner(app: ServedWorker, table: Any, key: bytes) -> URL:
    """The URL of the worker that owns the key. Needs the topic's metadata to find the key's partition."""
    topic = table.changelog_topic.get_topic_name()
    try:
        await fetch_metadata(app, topic)
        return URL(str(app.router.key_store(table.name, key)))
    except (KeyError, TypeError, AttributeError) as fault:
        log.warning("key_owner_unknown", table=table.name, error=repr(fault))
        raise unclear() from fault


async def _forward(app: ServedWorker, owner: URL, request: web.Request, asked: URL) -> web.Response:
    url = asked.with_host(owner.host or "127.0.0.1").with_port(owner.port)
    headers = {FORWARDED: "1", TRACE_HEADER: request[TRACE]}
    headers |= {name: request.headers[name] for name in ("Authorization", "Cookie") if name in request.headers}
    try:
        async with app.http_client.get(url, headers=headers, timeout=FORWARD_TIMEOUT) as answer:
            body = await answer.read()
            kind = answer.content_type
            return web.Response(body=body, status=answer.status, content_type=kind, charset="utf-8")
    except (aiohttp.ClientError, TimeoutError) as fault:
        metrics.RETRIES.labels(stage="forward").inc()
        log.warning("key_owner_unreachable", owner=str(owner), error=repr(fault))
        raise unclear() from fault


def _same(one: URL, other: URL) -> bool:
    return (one.host, one.port) == (other.host, other.port)


def unclear() -> ApiError:
    """The error if the owner of a key is unknown or does not answer."""
    return ApiError(503, "rebalancing", say("work is being shared out anew; ask again in a few seconds"))
