"""Uploads a medium as a producer does: named by its content, once, and only if there is room."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import puremagic

from vision_app.messages import Medium
from vision_app.settings import Settings
from vision_app.stores.keys import account_of, media_key
from vision_app.stores.s3 import ObjectMissing, S3Store
from vision_app.texts import say

from . import accounts
from .limits import gib, limits_of
from .quota import QuotaVerdict, judge

MAX_UPLOAD_BYTES = 41_943_040
"""Producers of the assistant drop larger media, and the worker does not read larger objects."""
FRESH = timedelta(days=1)

_DELETE_EXPIRY_RECORD = "DELETE FROM expired_objects WHERE s3_key = $1"


class UploadRefused(Exception):
    """The file was not uploaded. The text says why and what to do."""


class QuotaExceeded(UploadRefused):
    """There is no room. Clean up with `vision storage cleanup`, or raise the limit that the text names."""

    def __init__(self, tenant_id: str, verdict: QuotaVerdict, size_bytes: int) -> None:
        limit = {"bucket_full": "S3_TOTAL_LIMIT_GB", "tenant_limit": "S3_PER_TENANT_LIMIT_GB"}
        name = limit.get(verdict.reason, f"S3_{verdict.reason.partition('_')[0].upper()}_MAX_GB")
        super().__init__(
            say(
                "Quota exceeded ({reason}): {size_bytes} bytes do not fit; {tenant_id} holds "
                "{tenant_bytes:.4f} of {tenant_limit_bytes:g} GB, the bucket {bucket_bytes:.4f} GB; clean up "
                "with `vision storage cleanup`, or raise {name}",
                reason=verdict.reason,
                size_bytes=size_bytes,
                tenant_id=tenant_id,
                tenant_bytes=gib(verdict.tenant_bytes),
                tenant_limit_bytes=gib(verdict.tenant_limit_bytes),
                bucket_bytes=gib(verdict.bucket_bytes),
                name=name,
            )
        )
        self.verdict = verdict


@dataclass(frozen=True)
class Upload:
    """`medium` is what an event lists. `deduplicated`: the bucket had the picture already."""

    medium: Medium
    deduplicated: bool


def read_medium(path: Path, mime_type: str | None) -> tuple[bytes, str]:
    """A file's bytes and type, told from its content unless given. Raises UploadRefused, OSError."""
    size = path.stat().st_size
    if size > MAX_UPLOAD_BYTES:
        raise UploadRefused(
            say(
                "{path} has {size} bytes; the largest that is taken is {max_upload_bytes}",
                path=path,
                size=size,
                max_upload_bytes=MAX_UPLOAD_BYTES,
            )
        )
    content = path.read_bytes()
    if mime_type is None:
        try:
            mime_type = puremagic.from_string(content, mime=True, filename=path.name)
        except (ValueError, puremagic.PureError) as fault:
            raise UploadRefused(
                say("{path}: its type cannot be told from its content; give it with --mime", path=path)
            ) from fault
    return content, mime_type


async def upload(settings: Settings, pool: Any, s3: S3Store, tenant_id: str, content: bytes, mime_type: str) -> Upload:
    """Store a picture. Its room is booked first, and released if the store does not take it.

    Raises QuotaExceeded, S3Error, and what asyncpg raises.
    """
    sha256 = await asyncio.to_thread(lambda: hashlib.sha256(content).hexdigest())
    key = media_key(tenant_id, sha256, mime_type)
    medium = Medium(sha256=sha256, s3_key=key, mime_type=mime_type, size_bytes=len(content))
    there = await _upload_time_if_stored(s3, key, len(content))
    if there is None:
        await _reserve_quota(settings, pool, tenant_id, len(content))
    try:
        # write an old object again: otherwise it may expire before its new post comes
        if there is None or there < datetime.now(UTC) - FRESH:
            await s3.put(key, content, mime_type)
    except BaseException:
        if there is None:
            await _release_quota(pool, tenant_id, len(content))
        raise
    await pool.execute(_DELETE_EXPIRY_RECORD, key)
    return Upload(medium, there is not None)


async def _upload_time_if_stored(s3: S3Store, key: str, size_bytes: int) -> datetime | None:
    """Since when the bucket has the same object; None if it does not."""
    try:
        head = await s3.head(key)
    except ObjectMissing:
        return None
    return (head.last_modified or datetime.now(UTC)) if head.size_bytes == size_bytes else None


async def _reserve_quota(settings: Settings, pool: Any, tenant_id: str, size_bytes: int) -> None:
    """Book the room or raise QuotaExceeded. Two concurrent uploads cannot both get the last room."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT only_row FROM storage_state FOR UPDATE")
        held = await accounts.usage_by_account(connection)
        own, bucket = held.get(account_of(tenant_id)), accounts.sum_usages(held)
        verdict, why = judge(limits_of(settings), bucket, own, size_bytes, "media")
        if why is not None:
            raise QuotaExceeded(tenant_id, verdict, size_bytes)
        await accounts.add_now(connection, account_of(tenant_id), "media", size_bytes, 1)


async def _release_quota(pool: Any, tenant_id: str, size_bytes: int) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await accounts.add_now(connection, account_of(tenant_id), "media", -size_bytes, -1)
