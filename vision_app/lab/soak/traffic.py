"""The producer of a soak run: uploads new pictures and publishes posts at their times."""

from __future__ import annotations

import asyncio
import io
import random
import time
from collections.abc import Mapping, Sequence

import orjson
import stamina
from PIL import Image, ImageOps
from redis.asyncio import Redis
from redis.exceptions import RedisError

from vision_app.events import UPLOADED_EVENT
from vision_app.messages import Medium
from vision_app.operations import neighbours
from vision_app.settings import Settings
from vision_app.stores.s3 import S3Error, S3Store
from vision_app.topics import MAX_MESSAGE_BYTES

from .plan import PlannedPost

SIZE_PX = (128, 96)
PATIENCE_SECONDS = 120.0  # for Redis and S3, which the producer uses directly


def draw_picture(seed: int, number: int) -> bytes:
    """PNG bytes of picture `number` of a run: always the same for the same seed, unlike any other.

    It looks like a photo, so the simulator runs no OCR on it.
    """
    dice = random.Random(f"{seed} {number}")  # noqa: S311 - to be repeatable, not secret
    image = ImageOps.colorize(Image.radial_gradient("L").resize(SIZE_PX), _shade(dice, 0), _shade(dice, 175))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue() + f"{seed} {number}".encode()  # decoders stop at the end of the picture


def _shade(dice: random.Random, darkest: int) -> tuple[int, int, int]:
    return dice.randrange(darkest, darkest + 80), dice.randrange(darkest, darkest + 80), dice.randrange(80)


async def upload_all(s3: S3Store, posts: Sequence[PlannedPost], seed: int) -> dict[tuple[str, int], Medium]:
    """Upload every picture of the plan as its tenant's producer would. Raises S3Error."""
    await s3.ensure_bucket()
    wanted = sorted({(post.tenant_id, picture) for post in posts for picture in post.pictures})
    uploaded = [await _upload(s3, tenant_id, picture, seed) for tenant_id, picture in wanted]
    return dict(zip(wanted, uploaded, strict=True))


async def _upload(s3: S3Store, tenant_id: str, picture: int, seed: int) -> Medium:
    if picture < 0:
        return neighbours.never_uploaded(tenant_id, f"soak {seed} {picture}", "image/png")
    content = await asyncio.to_thread(draw_picture, seed, picture)
    async for attempt in stamina.retry_context(on=S3Error, timeout=PATIENCE_SECONDS, attempts=None):
        with attempt:
            return await neighbours.upload(s3, tenant_id, content, "image/png")
    raise AssertionError("the retries end with a return or an error")


class Clock:
    """Turns a plan's fractions into waits."""

    def __init__(self, seconds: float) -> None:
        self._started = time.monotonic()
        self._seconds = seconds

    async def wait_for(self, at: float) -> None:
        """Wait until the fraction `at` of the run is over."""
        await asyncio.sleep(max(0.0, self._started + at * self._seconds - time.monotonic()))

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._started


async def publish_all(
    redis: Redis,
    settings: Settings,
    posts: Sequence[PlannedPost],
    media: Mapping[tuple[str, int], Medium],
    clock: Clock,
) -> int:
    """Publish every post at its time. Returns the number of entries."""
    entries = 0
    for post in posts:
        await clock.wait_for(post.at)
        for publication in range(1, post.publications + 1):
            await _publish(redis, settings, post, media, publication)
            entries += 1
    return entries


async def _publish(
    redis: Redis, settings: Settings, post: PlannedPost, media: Mapping[tuple[str, int], Medium], publication: int
) -> None:
    listed = [media[post.tenant_id, picture] for picture in post.pictures]
    trace_id = f"{post.post_id}-{publication}"
    data = orjson.dumps(neighbours.uploaded_event(post.tenant_id, post.post_id, listed, trace_id))
    if post.kind == "unreadable":
        data = data[: len(data) // 2]
    elif post.kind == "oversized":
        data = data.replace(b"{", b'{"padding":"' + b"x" * MAX_MESSAGE_BYTES + b'",', 1)
    async for attempt in stamina.retry_context(on=RedisError, timeout=PATIENCE_SECONDS, attempts=None):
        with attempt:
            await redis.xadd(settings.input_streams[0], {"event": UPLOADED_EVENT, "data": data})
