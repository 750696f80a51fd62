"""The client for asyncio programs."""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
import puremagic
from pydantic import BaseModel, TypeAdapter, ValidationError
from redis.exceptions import RedisError

from vision_app.clients.faults import cause_of
from vision_app.clients.redis import redis_client, redis_fault
from vision_app.events.public import AnalyzedEvent, PublicEvent, SkippedEvent
from vision_app.messages import Medium
from vision_app.operations.neighbours import await_announcements, newest_announcement, publish, upload, uploaded_event
from vision_app.retention.upload import MAX_UPLOAD_BYTES, UploadRefused, read_medium
from vision_app.settings import Settings, load_settings
from vision_app.stack.ports import reachable
from vision_app.stores.keys import media_key
from vision_app.stores.s3 import ObjectMissing, S3Error, S3Store
from vision_app.web.models import LivePostAnswer, PostAnswer
from vision_app.web.post_models import ListedPost, PostSearchAnswer
from vision_app.web.storage_models import CheckAnswer

from .errors import ApiRefused, NotAnnounced, PictureRefused, ServiceAway, VisionError
from .log import get_logger

log = get_logger()

WARNED_ENTRIES = 1000
"""So many unreadable entries are remembered, so that each is warned about once."""
API_SECONDS = 30.0
REDIS_SECONDS, REDIS_CONNECT_SECONDS = 10.0, 5.0
"""For the answer to a command, and for connecting: a frozen Redis accepts connections and never answers."""
Model = TypeVar("Model", bound=BaseModel)

_EVENT: TypeAdapter[AnalyzedEvent | SkippedEvent] = TypeAdapter(PublicEvent)

Picture = Path | bytes | Medium
"""A file, its content, or what an earlier upload returned."""


@dataclass(frozen=True)
class Published:
    """A post that was published. `since`: the output stream's last entry before it; its answer comes after that."""

    post_id: str
    trace_id: str
    entry_id: str
    media: tuple[Medium, ...]
    since: str


class AsyncVision:
    """`async with AsyncVision("tenant") as vision:`. Connections open on entering and close on leaving.

    `api_url` and `token`: the worker's API, for quota and reading; default: VISION_API_HOST and VISION_API_PORT.
    """

    def __init__(
        self, tenant_id: str, *, settings: Settings | None = None, api_url: str | None = None, token: str = ""
    ) -> None:
        self.tenant_id = tenant_id
        self._settings = settings or load_settings()
        self._url = api_url or f"http://{reachable(self._settings.vision_api_host)}:{self._settings.vision_api_port}"
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._stack = AsyncExitStack()
        self._warned: dict[str, None] = {}  # entries of the output stream, the oldest first

    async def __aenter__(self) -> Self:
        async with self._services(), AsyncExitStack() as opened:  # closes what is open if a later one fails
            redis = redis_client(self._settings, timeout=REDIS_SECONDS, connect_timeout=REDIS_CONNECT_SECONDS)
            self._redis = await opened.enter_async_context(redis)
            self._s3 = S3Store(self._settings)
            opened.push_async_callback(self._s3.close)
            await self._s3.open()
            http = httpx.AsyncClient(base_url=self._url, headers=self._headers, timeout=API_SECONDS, trust_env=False)
            self._http = await opened.enter_async_context(http)
            self._stack = opened.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def upload(self, picture: Path | bytes, mime_type: str | None = None) -> Medium:
        """Put a picture into the bucket under its SHA-256, if there is room or it is there already.

        Raises PictureRefused, ServiceAway, ApiRefused.
        """
        content, kind = await asyncio.to_thread(_content, picture, mime_type)
        sha256 = await asyncio.to_thread(lambda: hashlib.sha256(content).hexdigest())
        if not await self._is_stored(media_key(self.tenant_id, sha256, kind), len(content)):
            asked = {"tenant_id": self.tenant_id, "size_bytes": len(content), "content_type": "media"}
            verdict = _read(CheckAnswer, (await self._ask("POST", "/api/v1/storage/quota/check", json=asked))[1])
            if not verdict.allowed:
                raise PictureRefused(f"there is no room ({verdict.reason}); `vision storage cleanup` makes some")
        async with self._services():  # a stored one, too: its age starts again, so it does not expire before its post
            return await upload(self._s3, self.tenant_id, content, kind)

    async def publish(
        self, post_id: str, pictures: Sequence[Picture], *, channel_id: str = "", trace_id: str = ""
    ) -> Published:
        """Upload the pictures that are not uploaded yet, and publish the post. Raises as `upload`."""
        media = [one if isinstance(one, Medium) else await self.upload(one) for one in pictures]
        trace_id = trace_id or f"t-{uuid.uuid4().hex}"
        event = uploaded_event(self.tenant_id, post_id, media, trace_id, channel_id=channel_id)
        if not channel_id:
            del event["channel_id"]
        async with self._services():
            since = await newest_announcement(self._redis, self._settings)
            entry = await publish(self._redis, self._settings, event)
        return Published(post_id, trace_id, entry, tuple(media), since)

    async def wait(self, post: Published, seconds: float = 60.0) -> AnalyzedEvent | SkippedEvent:
        """The post's announcement. Raises NotAnnounced after `seconds`, ServiceAway, VisionError if it is unreadable.

        A deferred post is announced as skipped with `details.deferred`, and again when it is analyzed. Entries of the
        stream that cannot be read are skipped, with one warning for each.
        """
        deadline = time.monotonic() + seconds
        async with self._services():
            found = await await_announcements(
                self._redis,
                self._settings,
                [post.post_id],
                post.since,
                deadline,
                on_unreadable=self._warn,
                tenant_id=self.tenant_id,
            )
        if post.post_id not in found:
            raise NotAnnounced(f"{post.post_id} was not announced within {seconds:g} s; `vision trace {post.post_id}`")
        try:
            return _EVENT.validate_python(found[post.post_id].body)
        except ValidationError as fault:
            raise VisionError(_unreadable("the announcement", fault)) from fault

    async def read(self, post_id: str) -> PostAnswer | LivePostAnswer:
        """The post's result; while it is in work, what its pictures wait for (a LivePostAnswer).

        Raises ApiRefused, with status 404 if there is no such post; ServiceAway.
        """
        path = f"/api/v1/vision/posts/{quote(post_id, safe='')}"
        status, body = await self._ask("GET", path, params={"tenant_id": self.tenant_id})
        return _read(LivePostAnswer, body) if status == httpx.codes.ACCEPTED else _read(PostAnswer, body)

    async def search(self, **filters: str) -> AsyncIterator[ListedPost]:
        """Every post that fits, the one changed last first. `filters`: those of GET /api/v1/posts, such as `q`.

        Raises ApiRefused, with status 422 for a filter that is not known; ServiceAway.
        """
        cursor: dict[str, str] = {}
        while True:
            query = {**filters, "tenant_id": self.tenant_id, **cursor}
            page = _read(PostSearchAnswer, (await self._ask("GET", "/api/v1/posts", params=query))[1])
            for post in page.posts:
                yield post
            if page.next_cursor is None:
                return
            cursor = {"cursor": page.next_cursor}

    def _warn(self, entry: str, fault: ValueError) -> None:
        """Warn about an entry that cannot be read, once, also if several calls of `wait` pass it."""
        if entry in self._warned:
            return
        self._warned[entry] = None
        if len(self._warned) > WARNED_ENTRIES:
            del self._warned[next(iter(self._warned))]
        stream = self._settings.vision_output_stream
        log.warning("announcement_unreadable", stream=stream, entry=entry, reason=str(fault)[:200])

    async def _is_stored(self, key: str, size_bytes: int) -> bool:
        async with self._services():
            try:
                return (await self._s3.head(key)).size_bytes == size_bytes
            except ObjectMissing:
                return False

    async def _ask(self, method: str, path: str, **more: Any) -> tuple[int, dict[str, Any]]:
        """Status and body of a successful answer."""
        try:
            answer = await self._http.request(method, path, **more)
            body = answer.json()
            if not isinstance(body, dict):
                raise ValueError("its answer is no JSON object")
        except (httpx.HTTPError, ValueError) as fault:
            text = f"{self._url} does not answer ({cause_of(fault)}); check VISION_API_PORT, or give api_url"
            raise ServiceAway(text) from fault
        if answer.is_success:
            return answer.status_code, body
        error = body["error"] if isinstance(body.get("error"), dict) else {}
        raise ApiRefused(answer.status_code, error.get("code", ""), error.get("message", ""), error.get("details"))

    @asynccontextmanager
    async def _services(self) -> AsyncIterator[None]:
        try:
            yield
        except RedisError as fault:
            raise ServiceAway(redis_fault(fault, self._settings)) from fault
        except S3Error as fault:
            raise ServiceAway(f"S3: {cause_of(fault)}; check S3_ENDPOINT_URL and its keys") from fault


def _read(model: type[Model], body: dict[str, Any]) -> Model:
    try:
        return model.model_validate(body)
    except ValidationError as fault:
        raise VisionError(_unreadable("the API's answer", fault)) from fault


def _unreadable(what: str, fault: ValidationError) -> str:
    """Names the fields only: the values are not ours to show."""
    places = ", ".join(".".join(map(str, error["loc"])) for error in fault.errors(include_input=False)[:3])
    return f"{what} has another form than this client knows ({places}); install the worker's version of vision_app"


def _content(picture: Path | bytes, mime_type: str | None) -> tuple[bytes, str]:
    """The bytes and their type, told from the content unless given. Raises PictureRefused."""
    if isinstance(picture, Path):
        try:
            return read_medium(picture, mime_type)
        except (UploadRefused, OSError) as fault:
            raise PictureRefused(f"{fault}") from fault
    if len(picture) > MAX_UPLOAD_BYTES:
        raise PictureRefused(f"{len(picture)} bytes; the largest that is taken is {MAX_UPLOAD_BYTES}")
    try:
        return picture, mime_type or puremagic.from_string(picture, mime=True)
    except (ValueError, puremagic.PureError) as fault:
        raise PictureRefused("its type cannot be told from its content; give mime_type to upload()") from fault
