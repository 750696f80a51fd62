"""Test posts for the input streams: with their pictures, without them, or unreadable."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

import orjson
from redis.asyncio import Redis

from vision_app.events import UPLOADED_EVENT
from vision_app.messages import Medium
from vision_app.operations import neighbours
from vision_app.settings import Settings
from vision_app.stores.keys import media_key
from vision_app.stores.s3 import S3Store

from .connections import redis_of, s3_of

Kind = Literal["valid", "missing", "poison"]
PostKind = Literal["valid", "missing", "poison", "mixed"]
Poison = Literal["unreadable", "missing-key"]

PICTURE, PICTURE_TYPE = "photo_cat.jpg", "image/jpeg"
MIX: tuple[Kind, ...] = ("valid",) * 6 + ("missing",) * 3 + ("poison",)
"""60 % valid, 30 % missing, 10 % poison, in every ten posts. Fewer hold every kind from three on."""
PAUSE_SECONDS = 0.1  # between posts that are not sent in parallel: the pace of a producer
AT_ONCE = 50


@dataclass(frozen=True)
class Batch:
    """What to publish. All valid posts list the same picture: ours, or `s3_key` and `sha256` as given."""

    count: int
    wish: PostKind
    tenant_id: str
    prefix: str
    stream: str
    parallel: bool = False
    poison: Poison = "unreadable"
    s3_key: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Sent:
    """One post that was published."""

    post_id: str
    trace_id: str
    kind: Kind
    entry_id: str


def kinds(batch: Batch) -> list[Kind]:
    """The kind of each post, in order."""
    if batch.wish == "mixed" and batch.count < len(MIX):  # a few posts hold every kind, too
        missing = max(1, round(0.3 * batch.count))
        valid = max(1, batch.count - missing - 1)
        few: list[Kind] = [*MIX[:1] * valid, *MIX[6:7] * missing, "poison"]
        return few[: batch.count]
    if batch.wish == "mixed":
        return [MIX[number % len(MIX)] for number in range(batch.count)]
    return [batch.wish] * batch.count


def fields(batch: Batch, number: int, kind: Kind, valid: Medium) -> dict[str, bytes]:
    """The entry of one post, in shape A. `number` counts from 1."""
    post_id, trace_id = name(batch.prefix, number), name("t-test", number)
    medium = valid if kind == "valid" else _missing(batch, number)
    event: dict[str, Any] = neighbours.uploaded_event(batch.tenant_id, post_id, [medium], trace_id)
    data = orjson.dumps(event)
    if kind == "poison" and batch.poison == "unreadable":
        data = data[: len(data) // 2]  # as if the producer had died while writing: not JSON any more
    return {"event": UPLOADED_EVENT.encode(), "data": data}


def name(prefix: str, number: int) -> str:
    return f"{prefix}-{number:04d}"


def _missing(batch: Batch, number: int) -> Medium:
    """A medium without an object: with the given key, else with a new one."""
    medium = neighbours.never_uploaded(batch.tenant_id, f"{batch.prefix} {number}")
    return medium.model_copy(update={"s3_key": batch.s3_key}) if batch.s3_key and batch.wish == "missing" else medium


async def publish(settings: Settings, batch: Batch) -> list[Sent]:
    """Publish all posts; returns them in order. Raises S3Error, RedisError."""
    chosen = kinds(batch)
    async with redis_of(settings) as redis:
        valid = neighbours.never_uploaded(batch.tenant_id, "unused")
        if "valid" in chosen:
            async with s3_of(settings) as s3:
                valid = await _valid(s3, batch)
        return await _send(redis, batch, chosen, valid)


async def _valid(s3: S3Store, batch: Batch) -> Medium:
    """Our picture, uploaded; with `s3_key` an existing object."""
    if batch.s3_key:
        head = await s3.head(batch.s3_key)
        sha256 = batch.sha256 or hashlib.sha256(await s3.read(batch.s3_key, head.size_bytes)).hexdigest()
        return Medium(sha256=sha256, s3_key=batch.s3_key, mime_type=head.content_type, size_bytes=head.size_bytes)
    await s3.ensure_bucket()
    content = resources.files("vision_app").joinpath("demo_media", PICTURE).read_bytes()
    medium = await neighbours.upload(s3, batch.tenant_id, content, PICTURE_TYPE)
    if batch.sha256:
        key = media_key(batch.tenant_id, batch.sha256, PICTURE_TYPE)
        return medium.model_copy(update={"sha256": batch.sha256, "s3_key": key})
    return medium


async def _send(redis: Redis, batch: Batch, chosen: Sequence[Kind], valid: Medium) -> list[Sent]:
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, kind: Kind) -> Sent:
        async with slots:
            entry: dict[Any, Any] = dict(fields(batch, number, kind, valid))
            entry_id = (await redis.xadd(batch.stream, entry)).decode()
        return Sent(name(batch.prefix, number), name("t-test", number), kind, entry_id)

    if batch.parallel:
        return list(await asyncio.gather(*(one(number, kind) for number, kind in _numbered(chosen))))
    sent: list[Sent] = []
    for number, kind in _numbered(chosen):
        if sent:
            await asyncio.sleep(PAUSE_SECONDS)
        sent.append(await one(number, kind))
    return sent


def _numbered(chosen: Sequence[Kind]) -> Iterator[tuple[int, Kind]]:
    return enumerate(chosen, start=1)
