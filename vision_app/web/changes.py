"""Server-sent events: which posts have just ended, and how. For pages that show what goes on.

Each worker reads the output stream in Redis once, as long as anybody listens, and hands the changes to its listeners.
A listener has a short queue: one that reads too slowly is told to read its lists anew (`resync`) instead of filling
memory. Not here: posts that are opened (they are not announced), and the consumers of the assistant, who read Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import orjson
import structlog
from aiohttp import web
from pydantic import BaseModel, Field
from redis.asyncio import Redis
from redis.exceptions import RedisError

from vision_app.clients.redis import redis_client, redis_fault
from vision_app.events import ANALYZED_EVENT, LIMITS
from vision_app.settings import Settings

from .auth import tenant_asked
from .errors import SECURITY_HEADERS, TRACE, TRACE_HEADER, ApiError, count_refused
from .models import Id, TenantQuery
from .operation import operation
from .page import Page
from .post_now import post_now
from .posts import tenant_of_post
from .rate import CALLER
from .worker import ServedWorker

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.5
RETRY_SECONDS = 2.0
HEARTBEAT_SECONDS = 15.0
LOOK_SECONDS = 1.0
"""How often a listener looks whether the worker stops or its caller has gone."""
WRITE_SECONDS = 30.0
"""A caller that takes nothing for longer is cut off; it may come back with Last-Event-ID."""
REDIS_SECONDS = 5.0
ENTRIES = 50  # read at once; an entry may have a megabyte
MOST_REPLAYED = 1000
QUEUE_LENGTH = 256
LARGEST_SHARE = 2  # of the connections, one in so many may be a stream
RECONNECT_MS = 3000

_ENTRY_ID = re.compile(r"(\d{1,20})-(\d{1,20})")
Kind = Literal["ready", "change", "resync", "away"]


class ChangesHeaders(BaseModel):
    last_event_id: Annotated[str, Field(pattern=r"^\d{1,20}-\d{1,20}$")] | None = Field(
        None, alias="last-event-id", description="`id` of the last event received: those since then come first"
    )


class ChangesQuery(TenantQuery):
    tenant_id: Id | None = Field(None, description="a token for all tenants may name one; without it, all")
    post_id: Id | None = Field(None, description="only this post, and where it is now, whenever that changes")
    seconds: int | None = Field(None, ge=1, le=86_400, description="end after so long; without it, it does not end")


@dataclass(frozen=True)
class Change:
    """A post that has ended. `id`: of its entry in the output stream."""

    id: str
    tenant_id: str
    post_id: str
    status: str
    at: datetime


@dataclass(frozen=True)
class Told:
    """What a listener is told. `id`: the place in the stream; "" if it is not known."""

    kind: Kind
    id: str = ""
    change: Change | None = None

    def encode(self) -> bytes:
        """As lines of the event stream."""
        if self.kind == "away":
            return b": Redis does not answer; trying again\n\n"
        body: dict[str, Any] = {}
        if (one := self.change) is not None:
            body = {"tenant_id": one.tenant_id, "post_id": one.post_id, "status": one.status, "at": one.at.isoformat()}
        place = f"id: {self.id}\n" if self.id else ""
        return f"{place}event: {self.kind}\ndata: ".encode() + orjson.dumps(body) + b"\n\n"


@dataclass(eq=False)
class Listener:
    """One connection's queue. `tenant_id` None: changes of all tenants; `post_id` None: of all posts."""

    tenant_id: str | None
    post_id: str | None = None
    queue: asyncio.Queue[Told] = field(default_factory=lambda: asyncio.Queue(QUEUE_LENGTH))

    def wants(self, change: Change) -> bool:
        return self.tenant_id in (None, change.tenant_id) and self.post_id in (None, change.post_id)

    def tell(self, told: Told) -> None:
        """Put it into the queue. A full queue is emptied and holds `resync` instead."""
        if told.change is not None and not self.wants(told.change):
            return
        if self.queue.full():
            while not self.queue.empty():
                self.queue.get_nowait()
            told = Told("resync", told.id)
        self.queue.put_nowait(told)


class ChangeTail:
    """Reads the output stream for all listeners of this worker. A resource of the worker."""

    def __init__(
        self,
        settings: Settings,
        redis: Redis | None = None,
        *,
        poll_seconds: float = POLL_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._settings, self._redis = settings, redis
        self._stream = settings.vision_output_stream
        self._poll_seconds, self._retry_seconds = poll_seconds, retry_seconds
        self._limit = min(settings.vision_api_change_streams, settings.vision_api_max_connections // LARGEST_SHARE)
        self._listeners: set[Listener] = set()
        self._callers = Counter[str]()
        self._place = ""  # the last entry seen; "" until Redis has answered
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Nothing to prepare: Redis is read while somebody listens."""

    async def close(self) -> None:
        await self._stop()
        if self._redis is not None:
            await self._redis.aclose()
            self._redis = None

    @property
    def reading(self) -> bool:
        return self._task is not None

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    @contextlib.asynccontextmanager
    async def listen(self, tenant_id: str | None, caller: str, post_id: str | None = None) -> AsyncIterator[Listener]:
        """A listener for one connection of a caller. Raises ApiError 429 if there are too many."""
        if len(self._listeners) >= self._limit or self._callers[caller] >= max(1, self._limit // 2):
            count_refused("too_many_streams")
            raise ApiError(
                429,
                "too_many_streams",
                "too many event streams are open; close some, or raise VISION_API_CHANGE_STREAMS",
                headers={"Retry-After": "10"},
            )
        listener = Listener(tenant_id, post_id)
        self._listeners.add(listener)
        self._callers[caller] += 1
        if self._task is None:
            self._place = ""
            self._task = asyncio.create_task(self._read_for_ever(), name="changes")
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            self._callers[caller] -= 1
            if not self._callers[caller]:
                del self._callers[caller]
            if not self._listeners:
                await self._stop()

    @property
    def place(self) -> str:
        """The last entry that the listeners were told of, or "" until Redis has answered."""
        return self._place

    async def since(self, listener: Listener, place: str) -> list[Told]:
        """A listener's changes since an entry, or `resync` if they are too many or no longer kept.

        Raises redis-py's errors.
        """
        oldest = await self._entries("-", 1)
        if oldest and _order(oldest[0][0]) > _order(place):
            return [Told("resync", self._place)]  # entries since then may have been trimmed
        told: list[Told] = []
        for _ in range(MOST_REPLAYED // ENTRIES):
            found = await self._entries(f"({place}", ENTRIES)
            told += [Told("change", one.id, one) for one in _changes(found) if listener.wants(one)]
            if len(found) < ENTRIES:
                return told
            place = found[-1][0]
        return [Told("resync", self._place or place)]

    async def _stop(self) -> None:
        if self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _read_for_ever(self) -> None:
        """Hand out new entries. Begins with those added from now on, by Redis' own clock."""
        while True:
            try:
                if not self._place:
                    seconds, micros = await self._client().time()
                    self._place = f"{seconds * 1000 + micros // 1000}-0"
                    self._tell(Told("ready", self._place))
                found = await self._entries(f"({self._place}", ENTRIES)
            except (RedisError, OSError) as fault:
                log.warning("changes_not_read", error=redis_fault(fault, self._settings))
                self._tell(Told("away"))
                await asyncio.sleep(self._retry_seconds)
                continue
            for change in _changes(found):
                self._tell(Told("change", change.id, change))
            if found:
                self._place = found[-1][0]
            await asyncio.sleep(0 if len(found) == ENTRIES else self._poll_seconds)

    def _tell(self, told: Told) -> None:
        for listener in self._listeners:
            listener.tell(told)

    async def _entries(self, start: str, count: int) -> list[tuple[str, Mapping[bytes, bytes]]]:
        found = await self._client().xrange(self._stream, min=start, max="+", count=count)
        return [(name.decode(), fields) for name, fields in found]

    def _client(self) -> Redis:
        if self._redis is None:
            self._redis = redis_client(self._settings, timeout=REDIS_SECONDS)
        return self._redis


class ChangesView(Page):
    """GET /api/v1/changes: an endless stream of server-sent events.

    Events: `ready` (listening from here on), `change` (a post has ended: tenant_id, post_id, status, at), `resync`
    (changes were left out: read the lists anew). Each has an `id`; after an interruption send it as Last-Event-ID.
    Lines that begin with a colon keep the connection open. The status is ok, partial, skipped, error or deferred.

    With `post_id` there are also events `state`, without an id: where the post is now, as
    `/api/v1/posts/{post_id}/live` answers, at the beginning and whenever it has changed.
    """

    @operation(
        "Posts that have just ended, as server-sent events",
        query=ChangesQuery,
        headers=ChangesHeaders,
        answers={},
        files={200: ("text/event-stream",)},
        errors=(429,),
        seconds=math.inf,
    )
    async def get(self, request: web.Request, query: ChangesQuery, headers: ChangesHeaders) -> web.StreamResponse:
        tenant_id, states = tenant_asked(request, query.tenant_id), None
        if query.post_id is not None:
            tenant_id = tenant_of_post(self.app, request, query.tenant_id)
            states = PostStates(self.app, request, tenant_id, query.post_id)
        async with self.app.changes.listen(tenant_id, request.get(CALLER, ""), query.post_id) as listener:
            response = web.StreamResponse(headers={**SECURITY_HEADERS, TRACE_HEADER: request[TRACE]})
            response.content_type, response.charset = "text/event-stream", "utf-8"
            response.headers["X-Accel-Buffering"] = "no"  # nginx would hold events back
            with contextlib.suppress(ConnectionError, TimeoutError):  # the caller has gone, or reads nothing
                await response.prepare(request)
                async for text in spoken(self.app, listener, headers.last_event_id, query.seconds or math.inf):
                    if request.transport is None or request.transport.is_closing():
                        break
                    text += await states.news() if states is not None else b""
                    if text:
                        async with asyncio.timeout(WRITE_SECONDS):
                            await response.write(text)
            return response


class PostStates:
    """Tells where a post is now, whenever that has changed. `look_seconds`: the least time between two looks."""

    def __init__(
        self, app: ServedWorker, request: web.Request, tenant_id: str, post_id: str, look_seconds: float = LOOK_SECONDS
    ) -> None:
        self._app, self._request, self._of, self._look_seconds = app, request, (tenant_id, post_id), look_seconds
        self._told, self._looked_at = b"", float("-inf")

    async def news(self) -> bytes:
        """The event, or nothing if nothing has changed or it was looked at just now."""
        if time.monotonic() - self._looked_at < self._look_seconds:
            return b""
        self._looked_at = time.monotonic()
        state = (await post_now(self._app, self._request, *self._of)).model_dump_json(exclude={"trace_id"}).encode()
        if state == self._told:
            return b""
        self._told = state
        return b"event: state\ndata: " + state + b"\n\n"


async def spoken(
    app: ServedWorker, listener: Listener, last_event_id: str | None, seconds: float
) -> AsyncIterator[bytes]:
    """What is sent to a listener, until the worker stops, or for some seconds. At least each LOOK_SECONDS a text, which
    may be empty.
    """
    end = time.monotonic() + seconds
    yield f"retry: {RECONNECT_MS}\n\n".encode()
    sent, resumed = last_event_id or app.changes.place, last_event_id is None
    if resumed and sent:
        yield Told("ready", sent).encode()
    spoke = time.monotonic()
    while not app.should_stop and time.monotonic() < end:
        told: list[Told] = []
        if not resumed:
            try:
                told = await app.changes.since(listener, sent)
                resumed = True
            except (RedisError, OSError) as fault:
                log.warning("changes_not_read", error=redis_fault(fault, app.settings))
                yield Told("away").encode()
                await asyncio.sleep(LOOK_SECONDS)
                continue
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    told = [await listener.queue.get()]
        for one in told:
            if one.kind == "change" and sent and _order(one.id) <= _order(sent):
                continue  # it was already sent on resuming
            if one.kind == "ready" and sent:
                continue
            sent = one.id or sent
            spoke = time.monotonic()
            yield one.encode()
        if time.monotonic() - spoke >= HEARTBEAT_SECONDS:
            spoke = time.monotonic()
            yield b": still here\n\n"
        yield b""


def _changes(entries: list[tuple[str, Mapping[bytes, bytes]]]) -> Iterator[Change]:
    """The changes that entries of the output stream announce; others are passed over."""
    for name, fields in entries:
        try:
            change = _change(name, orjson.loads(fields[b"data"]))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError):
            continue  # not one of our announcements
        if change is not None:
            yield change


def _change(name: str, body: Mapping[str, Any]) -> Change | None:
    tenant_id, post_id = body["tenant_id"], body["post_id"]
    for text, limit in ((tenant_id, LIMITS["tenant_id"]), (post_id, LIMITS["post_id"])):
        if not isinstance(text, str) or not 0 < len(text) <= limit:
            return None
    statuses = [str(item.get("status")) for item in body.get("enrichments", ())]
    if body["event_type"] == ANALYZED_EVENT:
        status = "ok" if all(one == "analyzed" for one in statuses) else "partial"
    elif "failed" in statuses:
        status = "error"
    else:
        status = "deferred" if "deferred" in statuses else "skipped"
    return Change(name, tenant_id, post_id, status, datetime.fromtimestamp(_order(name)[0] / 1000, UTC))


def _order(name: str) -> tuple[int, int]:
    found = _ENTRY_ID.fullmatch(name)
    return (int(found[1]), int(found[2])) if found else (0, 0)
