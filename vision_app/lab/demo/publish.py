"""Uploads the demo's pictures and publishes its posts, as a producer would."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources

from redis.asyncio import Redis

from vision_app.messages import Medium
from vision_app.operations import neighbours
from vision_app.settings import Settings
from vision_app.stores.s3 import S3Store

from .plan import Picture, PlannedPost


@dataclass(frozen=True)
class Published:
    """A post that was sent: its media in the order of the plan, and its entries on the input stream."""

    post: PlannedPost
    media: tuple[Medium, ...]
    entry_ids: tuple[str, ...]


async def upload_pictures(s3: S3Store, posts: Iterable[PlannedPost]) -> dict[tuple[str, Picture], Medium]:
    """Put every picture into every tenant's folder that lists it. Returns media by tenant and picture."""
    await s3.ensure_bucket()
    wanted = list(dict.fromkeys((post.tenant_id, picture) for post in posts for picture in post.pictures))
    media = await asyncio.gather(*(_upload(s3, tenant_id, picture) for tenant_id, picture in wanted))
    return dict(zip(wanted, media, strict=True))


async def _upload(s3: S3Store, tenant_id: str, picture: Picture) -> Medium:
    if not picture.is_uploaded:
        return neighbours.never_uploaded(tenant_id, picture.file, picture.mime_type)
    content = resources.files("vision_app").joinpath("demo_media", picture.file).read_bytes()
    return await neighbours.upload(s3, tenant_id, content, picture.mime_type)


async def publish_posts(
    redis: Redis, settings: Settings, posts: Sequence[PlannedPost], media: dict[tuple[str, Picture], Medium]
) -> list[Published]:
    """Publish every post once per trace, the repetitions right after the first."""
    return [await _publish(redis, settings, post, media) for post in posts]


async def _publish(
    redis: Redis, settings: Settings, post: PlannedPost, media: dict[tuple[str, Picture], Medium]
) -> Published:
    listed = tuple(media[post.tenant_id, picture] for picture in post.pictures)
    entries = []
    for trace_id in post.trace_ids:
        event = neighbours.uploaded_event(post.tenant_id, post.post_id, listed, trace_id)
        entries.append(await neighbours.publish(redis, settings, event))
    return Published(post, listed, tuple(entries))
