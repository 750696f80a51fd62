"""The client for others, against real services and a worker: the documented example as it stands, and its errors."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from tests.integration.pipeline import Pipeline, Worker, picture, unique
from vision_app.client import (
    AnalyzedEvent,
    ApiRefused,
    AsyncVision,
    NotAnnounced,
    PictureRefused,
    PostAnswer,
    Published,
    ServiceAway,
    SkippedEvent,
    Vision,
    VisionError,
)
from vision_app.operations.neighbours import never_uploaded
from vision_app.settings import Settings

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "vision_app" / "demo_media" / "photo_cat.jpg"


async def test_the_documented_example_runs_as_it_stands(
    pipe: Pipeline, worker: Worker, stack: Mapping[str, str], tmp_path: Path
) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "client.md").read_text("utf-8"), re.DOTALL)
    shutil.copy(PHOTO, tmp_path / "photo.jpg")
    port = worker.url.rpartition(":")[2]
    ran = await asyncio.to_thread(
        lambda: subprocess.run(
            [sys.executable, "-c", example],
            cwd=tmp_path,
            env={**os.environ, **stack, "VISION_API_PORT": port, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    )
    assert ran.returncode == 0, ran.stderr
    first, listed, *_ = ran.stdout.splitlines()
    assert first.startswith("photo Фотография")
    assert listed.startswith("post-1 photo")


@pytest.fixture
def settings(stack_settings: Settings, worker: Worker) -> Settings:
    return stack_settings.model_copy(update={"vision_api_port": int(worker.url.rpartition(":")[2])})


async def test_posts_are_published_awaited_and_read(pipe: Pipeline, settings: Settings) -> None:
    tenant = unique("client")
    async with AsyncVision(tenant, settings=settings) as vision:
        medium = await vision.upload(picture())
        seen, gone = await asyncio.gather(
            vision.publish(unique("seen"), [medium]),
            vision.publish(unique("gone"), [never_uploaded(tenant, "client")]),
        )
        answer, skip = await asyncio.gather(vision.wait(seen), vision.wait(gone))
        assert isinstance(answer, AnalyzedEvent)
        assert [one.sha256 for one in answer.media] == [medium.sha256]
        assert isinstance(skip, SkippedEvent)
        assert [reason.reason for reason in skip.reasons] == ["s3_missing"]
        shown = await vision.read(seen.post_id)
        assert isinstance(shown, PostAnswer)
        assert (shown.status, shown.channel_id) == ("ok", None)
        found = [post.post_id async for post in vision.search(limit="1")]
        assert set(found) == {seen.post_id, gone.post_id}


async def test_errors_say_what_is_wrong(pipe: Pipeline, settings: Settings) -> None:
    async with AsyncVision(unique("client"), settings=settings) as vision:
        with pytest.raises(PictureRefused, match="type cannot be told"):
            await vision.upload(b"no picture at all")
        with pytest.raises(PictureRefused, match="No such file"):
            await vision.publish("p", [Path("/nowhere.jpg")])
        with pytest.raises(ApiRefused, match="404 not_found"):
            await vision.read("nobody")
        late = await vision.publish(unique("late"), [never_uploaded("x", "late")])
        with pytest.raises(NotAnnounced, match="vision trace"):
            await vision.wait(late, seconds=0)
    async with AsyncVision("t", settings=settings, api_url="http://127.0.0.1:9") as vision:
        with pytest.raises(ServiceAway, match="VISION_API_PORT"):
            await vision.upload(picture())


async def test_the_answer_to_another_tenants_post_of_the_same_id_is_not_returned(
    pipe: Pipeline, settings: Settings
) -> None:
    async with (
        AsyncVision(unique("theirs"), settings=settings) as theirs,
        AsyncVision("ours", settings=settings) as ours,
    ):
        post = await theirs.publish(unique("same"), [never_uploaded(theirs.tenant_id, "same")])
        assert (await theirs.wait(post)).tenant_id == theirs.tenant_id  # it is on the stream now
        with pytest.raises(NotAnnounced):
            await ours.wait(post, seconds=1)


async def test_a_stored_picture_needs_no_room(pipe: Pipeline, settings: Settings) -> None:
    tenant, content = unique("client"), picture()
    async with AsyncVision(tenant, settings=settings) as vision:
        first = await vision.upload(content)
    async with AsyncVision(tenant, settings=settings, api_url="http://127.0.0.1:9") as vision:  # nobody to ask for room
        assert await vision.upload(content) == first


async def test_an_unreadable_answer_is_an_error_of_the_client_that_shows_no_values(
    pipe: Pipeline, settings: Settings
) -> None:
    async def strange(request: web.Request) -> web.Response:
        return web.json_response({"post_id": ["a secret"]} if request.path.endswith("/form") else ["a secret"])

    app = web.Application()
    app.router.add_get("/{path:.*}", strange)
    async with TestServer(app) as server:
        api_url = str(server.make_url("")).rstrip("/")
        async with AsyncVision("t", settings=settings, api_url=api_url) as vision:
            with pytest.raises(VisionError, match=r"post_id.*install the worker's version") as form:
                await vision.read("form")
            with pytest.raises(ServiceAway, match="does not answer") as kind:
                await vision.read("other")
    assert "a secret" not in f"{form.value}{kind.value}"


async def test_an_unreadable_announcement_is_an_error_of_the_client(pipe: Pipeline, settings: Settings) -> None:
    own = settings.model_copy(update={"vision_output_stream": unique("stream:strange")})
    async with AsyncVision("t", settings=own) as vision:
        post = replace(await vision.publish(unique("p"), [never_uploaded("t", "p")]), since="0-0")
        body = f'{{"tenant_id": "t", "post_id": "{post.post_id}", "event_type": "posts.vision.skipped"}}'
        await pipe.redis.xadd(own.vision_output_stream, {"event": "posts.vision.skipped", "data": body})
        with pytest.raises(VisionError, match="another form"):
            await vision.wait(post, seconds=5)


STRANGE: list[dict[Any, Any]] = [
    {"event": "x", "data": "<html>"},
    {"event": "x"},
    {"data": "[1, 2]"},
    {"data": "null"},
    {"data": b"\xff\xfe{"},
    {b"\xff": b"\x00"},
    {"data": '{"post_id": ' + "[" * 2000 + "]" * 2000 + "}"},
]
"""Entries of the output stream that are no announcements."""


async def _strange_then_skipped(pipe: Pipeline, own: Settings, tenant: str) -> Published:
    """A published post, announced as skipped after entries that are no announcements."""
    async with AsyncVision(tenant, settings=own) as vision:
        post = replace(await vision.publish(unique("p"), [never_uploaded(tenant, "p")]), since="0-0")
    for fields in STRANGE:
        await pipe.redis.xadd(own.vision_output_stream, fields)
    skipped = {"event_type": "posts.vision.skipped", "tenant_id": tenant, "post_id": post.post_id, "trace_id": "t"}
    more = {"schema_version": "1.0", "occurred_at": "2026-11-22T12:00:00Z", "idempotency_key": "k", "emission": "1-1"}
    body = orjson.dumps({**skipped, **more, "producer": "vision-worker", "enrichments": [], "reasons": []})
    await pipe.redis.xadd(own.vision_output_stream, {"event": "posts.vision.skipped", "data": body})
    return post


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The client's log, also if another test has configured logging as a worker does."""
    logger = logging.getLogger("vision_app.client")
    before, logger.disabled, logger.propagate = (logger.disabled, logger.propagate), False, False
    level = logger.level
    logger.setLevel(logging.WARNING)
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)
    logger.setLevel(level)
    logger.disabled, logger.propagate = before


async def test_entries_that_are_no_announcements_are_skipped_with_one_warning_each(
    pipe: Pipeline, settings: Settings, warnings: pytest.LogCaptureFixture
) -> None:
    own = settings.model_copy(update={"vision_output_stream": unique("stream:strange")})
    post = await _strange_then_skipped(pipe, own, "t")
    async with AsyncVision("t", settings=own) as vision:
        for _ in range(2):
            assert isinstance(await vision.wait(post, seconds=10), SkippedEvent)
    warned = [one.getMessage() for one in warnings.records if one.name == "vision_app.client"]
    assert len(warned) == len(STRANGE)
    assert all(one.startswith("event='announcement_unreadable' ") for one in warned)
    assert own.vision_output_stream in warned[0]
    await pipe.redis.delete(own.vision_output_stream)


async def test_the_client_without_asyncio_skips_them_too(
    pipe: Pipeline, settings: Settings, warnings: pytest.LogCaptureFixture
) -> None:
    own = settings.model_copy(update={"vision_output_stream": unique("stream:strange")})
    post = await _strange_then_skipped(pipe, own, "t")

    def twice() -> list[object]:
        with Vision("t", settings=own) as vision:
            return [vision.wait(post, seconds=10) for _ in range(2)]

    assert all(isinstance(one, SkippedEvent) for one in await asyncio.to_thread(twice))
    assert sum(one.name == "vision_app.client" for one in warnings.records) == len(STRANGE)
    await pipe.redis.delete(own.vision_output_stream)


async def test_the_client_opens_again_after_closing_and_closes_after_a_failed_opening(
    pipe: Pipeline, settings: Settings
) -> None:
    def twice() -> list[str]:
        client = Vision(unique("client"), settings=settings)
        seen = []
        for _ in range(2):
            with client as vision, pytest.raises(ApiRefused) as refused:
                vision.read("nobody")
            seen.append(refused.value.code)
        return seen

    assert await asyncio.to_thread(twice) == ["not_found", "not_found"]
    keyless = settings.model_copy(update={"s3_access_key_id": SecretStr("")})
    with pytest.raises(ServiceAway, match="S3"):
        await AsyncVision("t", settings=keyless).__aenter__()
