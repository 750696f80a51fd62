"""Thumbnails of stored pictures: made by decoders of their own, under their limits, and kept in memory for a while.

Two are made at once, so pages neither take the pipeline's decoders nor much memory. The picture is encoded again from
its pixels, so nothing of the stored bytes reaches a browser.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass

import structlog
from aiohttp import web
from pydantic import BaseModel, Field

from vision_app.providers.decoders import Decoders, DecodersUnavailable
from vision_app.providers.decoding import DecodeRequest, UnusablePicture
from vision_app.settings import Settings
from vision_app.stores.s3 import ObjectForbidden, ObjectMissing, ObjectTooLarge, S3Store, StoreUnavailable

from .auth import tenant_asked
from .errors import ApiError, unchanged
from .models import MediaPath, TenantQuery
from .operation import operation
from .page import Page
from .readers import only_row
from .worker import ServedWorker

log = structlog.get_logger(__name__)

AT_ONCE = 2
DEFAULT_SIZE, SMALLEST, LARGEST = 256, 16, 1024
QUALITY = 80
REST_SECONDS = 60.0
READ_SECONDS, AWAY_SECONDS = 8.0, 2.0
"""Time for an object; the shorter one while S3 gives no answer to the worker either."""
MAX_OBJECT_BYTES = 41_943_040
CACHE_CONTROL = "private, no-cache"
"""A browser keeps it, and asks each time whether it may still show it."""


class ThumbnailQuery(TenantQuery):
    size: int = Field(DEFAULT_SIZE, ge=SMALLEST, le=LARGEST, description="of the longer side, in pixels, at most")


class StoredMedium(BaseModel):
    """A tenant's medium, as `media_objects` has it."""

    tenant_id: str
    sha256: str
    s3_key: str
    mime_type: str


@dataclass(frozen=True)
class Thumbnail:
    content: bytes
    mime_type: str
    etag: str


class Thumbnails:
    """Makes and keeps thumbnails. Its decoders run only while some are made. A resource of the worker.

    `rest_seconds`: when decoders without work end.
    """

    def __init__(
        self, settings: Settings, s3: S3Store, decoders: Decoders | None = None, *, rest_seconds: float = REST_SECONDS
    ) -> None:
        self._s3, self._decoders = s3, decoders or Decoders(settings, AT_ONCE)
        self._rest_seconds = rest_seconds
        self.read_seconds, self.away_seconds = READ_SECONDS, AWAY_SECONDS
        self._timer: asyncio.TimerHandle | None = None
        self._resting: asyncio.Task[None] | None = None
        self._limit = settings.vision_api_thumbnail_cache_bytes
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._kept: OrderedDict[str, Thumbnail] = OrderedDict()
        self._bytes = 0

    async def open(self) -> None:
        """Nothing to prepare: most workers are never asked for a thumbnail."""

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._resting is not None:
            await self._resting
        await self._decoders.close()

    @property
    def kept_bytes(self) -> int:
        return self._bytes

    async def of(self, medium: StoredMedium, size: int) -> Thumbnail:
        """The thumbnail of a medium.

        Raises ApiError: 404 if there is no such object, 422 if it is no usable picture, 503 if it cannot be read now.
        """
        etag = etag_of(medium, size)
        if (kept := self._kept.get(etag)) is not None:
            self._kept.move_to_end(etag)
            return kept
        async with self._turn:  # also for the bytes of the objects
            try:
                made = await self._made(medium, size, etag)
            finally:
                self._rest_later()
        self._keep(made)
        return made

    def _rest_later(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._rest_seconds, self._rest)

    def _rest(self) -> None:
        self._resting = asyncio.create_task(self._decoders.rest(), name="thumbnails")

    async def _made(self, medium: StoredMedium, size: int, etag: str) -> Thumbnail:
        content = await self._read(medium)
        try:
            picture = await self._decoders.render(content, medium.mime_type, DecodeRequest(size, QUALITY))
        except UnusablePicture as fault:
            raise _unusable(f"the picture cannot be decoded: {fault.reason}", fault.reason) from fault
        except DecodersUnavailable as fault:
            log.warning("thumbnail_not_made", error=str(fault))
            raise ApiError(503, "decoder_unavailable", "no decoder can be started; ask again in a minute") from fault
        if not picture.mime_type.startswith("image/"):
            raise _unusable("this is a document, not a picture", "document")
        return Thumbnail(picture.content, picture.mime_type, etag)

    async def _read(self, medium: StoredMedium) -> bytes:
        others_wait = self._s3.reachability.trouble is not None
        patience = self.away_seconds if others_wait else self.read_seconds
        try:
            async with asyncio.timeout(patience):
                content = await self._s3.read(medium.s3_key, MAX_OBJECT_BYTES)
        except (ObjectMissing, ObjectForbidden) as fault:
            raise ApiError(404, "object_missing", "the bucket has no such object, or lets nobody read it") from fault
        except ObjectTooLarge as fault:
            raise _unusable(f"the object is larger than {MAX_OBJECT_BYTES} bytes", "too_large") from fault
        except (StoreUnavailable, TimeoutError) as fault:
            if not others_wait:
                self._s3.reachability.gave_up()  # no later call would end it
            log.warning("thumbnail_not_made", error=str(fault) or f"S3 did not answer within {patience:.0f} s")
            raise ApiError(503, "store_unavailable", "S3 does not answer; see `vision doctor`") from fault
        digest = await asyncio.to_thread(hashlib.sha256, content)
        if digest.hexdigest() != medium.sha256:
            raise _unusable("the object is not the picture that the post listed: its SHA-256 differs", "hash_mismatch")
        return content

    def _keep(self, made: Thumbnail) -> None:
        if len(made.content) > self._limit:
            return
        if (old := self._kept.pop(made.etag, None)) is not None:
            self._bytes -= len(old.content)
        self._kept[made.etag] = made
        self._bytes += len(made.content)
        while self._bytes > self._limit:
            _, gone = self._kept.popitem(last=False)
            self._bytes -= len(gone.content)


class ThumbnailView(Page):
    """GET /api/v1/media/{sha256}/thumbnail: a small picture, JPEG or PNG, made from the stored object.

    It is upright, without metadata, and no larger than the picture. 404: no post of the tenant lists the medium, or the
    bucket has no such object; 410: the object has expired; 422: it is no picture that can be decoded.
    """

    @operation(
        "A small picture of a medium",
        path=MediaPath,
        query=ThumbnailQuery,
        answers={},
        files={200: ("image/jpeg", "image/png"), 304: ()},
        errors=(404, 409, 410, 503),
    )
    async def get(self, request: web.Request, path: MediaPath, query: ThumbnailQuery) -> web.Response:
        return await thumbnail(self.app, request, path.sha256, query)


async def thumbnail(app: ServedWorker, request: web.Request, sha256: str, query: ThumbnailQuery) -> web.Response:
    """The thumbnail, or 304 if the caller has it. Raises ApiError 404, 409, 410, 422, 503."""
    medium = await stored_medium(app, request, sha256, query.tenant_id)
    etag = etag_of(medium, query.size)
    headers = {"ETag": etag, "Cache-Control": CACHE_CONTROL}
    if unchanged(request, etag):
        return web.Response(status=304, headers=headers)
    made = await app.thumbnails.of(medium, query.size)
    return web.Response(body=made.content, content_type=made.mime_type, headers=headers)


async def stored_medium(
    app: ServedWorker, request: web.Request, sha256: str, tenant_id: str | None = None
) -> StoredMedium:
    """A medium that a post of the caller's tenant lists.

    Raises ApiError 404 if there is none, 409 if several tenants have it, 410 if its object has expired, 503 without
    Postgres.
    """
    tenant_id = tenant_asked(request, tenant_id)
    async with app.readers.for_page() as reader:
        row = only_row(await reader.medium_objects(sha256, tenant_id), "this medium")
    if row is None:
        raise ApiError(404, "not_found", "no post has listed this medium")
    if row["expired_at"] is not None:
        raise ApiError(410, "expired", f"the picture was deleted from the bucket at {row['expired_at'].isoformat()}")
    return StoredMedium.model_validate(row)


def etag_of(medium: StoredMedium, size: int) -> str:
    """The same for equal thumbnails. Tenants have different ones, so that none tells what another tenant has."""
    made_of = f"{medium.tenant_id}\n{medium.sha256}\n{medium.s3_key}\n{size}\n{QUALITY}"
    return f'"{hashlib.sha256(made_of.encode("utf-8", "surrogatepass")).hexdigest()[:32]}"'


def _unusable(text: str, reason: str) -> ApiError:
    return ApiError(422, "no_thumbnail", text, reason=reason)
