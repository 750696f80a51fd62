"""The client for others, against real services and a worker: the documented example as it stands, and its errors."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.integration.pipeline import Pipeline, Worker, picture, unique
from vision_app.client import (
    AnalyzedEvent,
    ApiRefused,
    AsyncVision,
    NotAnnounced,
    PictureRefused,
    ServiceAway,
    SkippedEvent,
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
        assert (await vision.read(seen.post_id))["status"] == "ok"
        found = [post["post_id"] async for post in vision.search(limit="1")]
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
