"""Thumbnails with real decoders and a bucket in memory: what they are, whose they are, and what is refused."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from PIL import Image

from tests.fakes import until
from tests.hostile_pictures import encoded, scan_bomb
from tests.unit.test_budget import TENANT
from tests.unit.test_web import TOKENS, Worker
from tests.web_app import application
from vision_app.providers.base import Picture
from vision_app.providers.decoders import Decoders
from vision_app.settings import load_settings
from vision_app.stores.s3 import ObjectForbidden, ObjectMissing, ObjectTooLarge, StoreUnavailable
from vision_app.telemetry.reachability import Reachability
from vision_app.web.thumbnails import AT_ONCE, StoredMedium, Thumbnails

EXPIRED = datetime(2026, 11, 22, tzinfo=UTC)


def picture(width: int = 900, height: int = 600, form: str = "JPEG") -> bytes:
    out = io.BytesIO()
    noise = Image.effect_noise((width, height), 60).convert("RGB")
    noise.save(out, form, **({"comment": b"secret"} if form == "JPEG" else {}))
    return out.getvalue()


class Bucket:
    """Objects by key; an exception in the place of one is raised."""

    def __init__(self, **objects: bytes | Exception) -> None:
        self.reachability = Reachability()
        self.objects, self.reads = objects, 0

    async def read(self, key: str, limit_bytes: int) -> bytes:
        self.reads += 1
        found = self.objects.get(key, ObjectMissing(key))
        if isinstance(found, Exception):
            raise found
        return found


class Served(Worker):
    """The worker with media of tenants."""

    def __init__(self, bucket: Bucket, **settings: Any) -> None:
        super().__init__()
        self.settings = load_settings(vision_api_tokens=f"every=*,mine={TENANT}", **settings)
        self.thumbnails = Thumbnails(self.settings, bucket)  # type: ignore[arg-type]  # as much of the store as it uses
        self.media: list[dict[str, Any]] = []

    def add(self, key: str, content: bytes, tenant_id: str = TENANT, expired: datetime | None = None) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        self.media.append(
            {"tenant_id": tenant_id, "sha256": sha256, "s3_key": key, "mime_type": "image/jpeg", "expired_at": expired}
        )
        return f"/api/v1/media/{sha256}/thumbnail"

    async def medium_objects(self, sha256: str, tenant_id: str | None) -> list[dict[str, Any]]:
        return [row for row in self.media if row["sha256"] == sha256 and tenant_id in (None, row["tenant_id"])]


@asynccontextmanager
async def served(worker: Served) -> AsyncIterator[TestClient[Any, Any]]:
    try:
        async with TestClient(TestServer(application(worker.settings, worker))) as client:
            yield client
    finally:
        await worker.thumbnails.close()


async def status(client: TestClient[Any, Any], url: str, caller: str = "own") -> tuple[int, str]:
    async with client.get(url, headers=TOKENS[caller]) as answer:
        return answer.status, "" if answer.status < 400 else (await answer.json())["error"]["code"]


@pytest.mark.parametrize(("form", "size", "expected"), [("JPEG", None, (256, 171)), ("PNG", 64, (64, 43))])
async def test_a_thumbnail_is_a_small_picture_without_anything_but_pixels(
    form: str, size: int | None, expected: tuple[int, int]
) -> None:
    content = picture(form=form)
    worker = Served(Bucket(k=content))
    url = worker.add("k", content) + (f"?size={size}" if size else "")
    async with served(worker) as client, client.get(url, headers=TOKENS["own"]) as answer:
        assert (answer.status, answer.headers["Cache-Control"]) == (200, "private, no-cache")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        body = await answer.read()
    shown = Image.open(io.BytesIO(body))
    assert (shown.size, answer.content_type) == (expected, f"image/{shown.format}".lower())
    assert b"secret" not in body


async def test_it_is_made_once_and_a_browser_that_has_it_gets_no_second_copy() -> None:
    content, bucket = picture(), Bucket()
    bucket.objects["k"] = content
    worker = Served(bucket)
    url = worker.add("k", content)
    async with served(worker) as client:
        async with client.get(url, headers=TOKENS["own"]) as first:
            etag = first.headers["ETag"]
        assert await status(client, url) == (200, "")
        async with client.get(url, headers={**TOKENS["own"], "If-None-Match": etag}) as again:
            assert (again.status, await again.read(), again.headers["ETag"]) == (304, b"", etag)
        async with client.get(f"{url}?size=64", headers={**TOKENS["own"], "If-None-Match": etag}) as other:
            assert other.status == 200
    assert bucket.reads == 2


async def test_memory_of_thumbnails_is_bounded() -> None:
    contents = {f"k{number}": picture(64, 64 + number) for number in range(6)}
    worker = Served(Bucket(**contents), vision_api_thumbnail_cache_bytes=8000)
    urls = [worker.add(key, content) for key, content in contents.items()]
    async with served(worker) as client:
        for url in urls:
            assert await status(client, url) == (200, "")
            assert 0 < worker.thumbnails.kept_bytes <= 8000


async def test_what_is_no_picture_of_the_tenant_is_refused_by_its_reason() -> None:
    good, bomb, text = picture(), scan_bomb(), b"just a text"
    objects: dict[str, bytes | Exception] = {
        "good": good, "bomb": bomb, "text": text, "pdf": b"%PDF-1.4", "other": b"not what was listed",
        "large": ObjectTooLarge("large"), "closed": ObjectForbidden("closed"), "away": StoreUnavailable("away"),
    }  # fmt: skip
    worker = Served(Bucket(**objects), vision_decoding_timeout=1)
    cases = [
        (worker.add("gone", b"gone"), (404, "object_missing")),
        (worker.add("closed", b"closed"), (404, "object_missing")),
        (worker.add("expired", b"expired", expired=EXPIRED), (410, "expired")),
        (worker.add("bomb", bomb), (422, "no_thumbnail")),
        (worker.add("text", text), (422, "no_thumbnail")),
        (worker.add("pdf", b"%PDF-1.4"), (422, "no_thumbnail")),
        (worker.add("other", b"listed"), (422, "no_thumbnail")),
        (worker.add("large", b"large"), (422, "no_thumbnail")),
        (worker.add("away", b"away"), (503, "store_unavailable")),
        ("/api/v1/media/unknown/thumbnail", (404, "not_found")),
        (worker.add("good", good) + "?size=1025", (422, "invalid_request")),
        (worker.add("good", good) + "?size=0", (422, "invalid_request")),
    ]
    async with served(worker) as client:
        for url, expected in cases:
            assert await status(client, url) == expected, url


async def test_another_tenants_token_gets_no_thumbnail_even_with_the_etag() -> None:
    content = picture()
    worker = Served(Bucket(theirs=content))
    url = worker.add("theirs", content, tenant_id="another")
    async with served(worker) as client:
        async with client.get(url, headers=TOKENS["all"]) as answer:
            assert answer.status == 200
        for query in ("", "?tenant_id=another"):
            headers = {**TOKENS["own"], "If-None-Match": answer.headers["ETag"]}
            async with client.get(url + query, headers=headers) as refused:
                assert refused.status == 404
        assert (await client.get(url)).status == 401


async def test_equal_pictures_of_two_tenants_must_be_told_apart() -> None:
    content = picture()
    worker = Served(Bucket(mine=content, theirs=content))
    url = worker.add("mine", content)
    worker.add("theirs", content, tenant_id="another")
    async with served(worker) as client:
        assert await status(client, url, "all") == (409, "ambiguous")
        assert await status(client, f"{url}?tenant_id=another", "all") == (200, "")


async def test_no_more_than_two_are_made_at_once() -> None:
    running, most, gate = 0, 0, asyncio.Event()

    class Slow:
        async def render(self, content: bytes, declared_mime: str, wish: Any) -> Picture:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await gate.wait()
            running -= 1
            return Picture(encoded("JPEG"), "image/jpeg", 1, 1)

        async def close(self) -> None: ...

    contents = {f"k{number}": bytes([number]) for number in range(5)}
    made = Thumbnails(load_settings(), Bucket(**contents), Slow())  # type: ignore[arg-type]  # fakes of both
    media = [
        StoredMedium(tenant_id="t", sha256=hashlib.sha256(content).hexdigest(), s3_key=key, mime_type="image/jpeg")
        for key, content in contents.items()
    ]
    tasks = [asyncio.create_task(made.of(medium, 64)) for medium in media]
    async with asyncio.timeout(10):
        while running < AT_ONCE:
            await asyncio.sleep(0.01)
        gate.set()
        await asyncio.gather(*tasks)
    await made.close()
    assert most == AT_ONCE


async def test_decoders_without_work_end_and_start_again() -> None:
    content = picture()
    decoders = Decoders(load_settings(), AT_ONCE)
    made = Thumbnails(load_settings(), Bucket(k=content), decoders, rest_seconds=0.05)  # type: ignore[arg-type]  # a fake
    medium = StoredMedium(tenant_id="t", sha256=hashlib.sha256(content).hexdigest(), s3_key="k", mime_type="image/jpeg")
    for size in (64, 65):
        assert (await made.of(medium, size)).mime_type == "image/jpeg"
        await until(lambda: not decoders.pids)
    await made.close()


async def test_a_thumbnail_does_not_wait_for_an_s3_that_is_frozen() -> None:
    """It gives up soon, sooner while other work waits for S3; it leaves no failure behind that nobody ends."""

    class Frozen(Bucket):
        async def read(self, key: str, limit_bytes: int) -> bytes:
            with self.reachability.call():
                await asyncio.Event().wait()
            return b""

    content, bucket = picture(), Frozen()
    worker = Served(bucket)
    worker.thumbnails.read_seconds = 0.05
    url = worker.add("k", content)
    async with served(worker) as client:
        assert await status(client, url) == (503, "store_unavailable")
        assert bucket.reachability.trouble is None
        worker.thumbnails.read_seconds, worker.thumbnails.away_seconds = 3600, 0.05
        bucket.reachability.failed("no answer for 12 s")
        assert await status(client, url) == (503, "store_unavailable")
