"""The corpus of hostile pictures with the real decoder processes: the result for each picture and for the process."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator

import psutil
import pytest
import pytest_asyncio
from PIL import Image

from tests.hostile_pictures import CASES, SECRET, SENT, Case, encoded
from vision_app.providers.base import Picture
from vision_app.providers.decoders import Decoders
from vision_app.providers.decoding import UnusablePicture
from vision_app.settings import load_settings

MEMORY_MB = 512
SOUND = encoded("PNG", (8, 8))


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=[True, False], ids=["scaled", "unscaled"])
async def decoders(request: pytest.FixtureRequest) -> AsyncIterator[Decoders]:
    settings = load_settings(
        vision_preprocess_enabled=request.param, vision_decoding_timeout=1, vision_decoding_memory_mb=MEMORY_MB
    )
    opened = Decoders(settings, children=1)
    await opened.open()
    yield opened
    await opened.close()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_each_case_ends_as_expected(decoders: Decoders, case: Case) -> None:
    content = case.content()
    await decoders.prepare(SOUND, "image/png")  # a child is available after any earlier picture
    [child] = [psutil.Process(pid) for pid in decoders.pids]
    if case.expected == SENT:
        _check(await decoders.prepare(content, case.declared), content)
    else:
        with pytest.raises(UnusablePicture) as caught:
            await decoders.prepare(content, case.declared)
        assert caught.value.reason == case.expected, caught.value.details
        assert caught.value.details
    assert case.slow or child.is_running(), "the child outlives it"
    assert len(decoders.pids) <= 1
    if child.is_running():
        assert child.memory_info().rss < MEMORY_MB * 1024**2


def _check(picture: Picture, content: bytes) -> None:
    """The result is a valid picture with nothing else in it, or the unchanged document."""
    if not picture.is_image:
        assert picture.content == content
        return
    assert SECRET not in picture.content
    for trace in (b"Exif\0\0", b"xmpmeta", b"evil.exe", b"<script", b"%PDF-1.7", b"ICC_PROFILE", b"Photoshop"):
        assert trace not in picture.content
    with Image.open(io.BytesIO(picture.content)) as sent:
        sent.load()
        assert Image.MIME[str(sent.format)] == picture.mime_type
        assert set(sent.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
        assert not sent.getexif()
        end = b"\xff\xd9" if sent.format == "JPEG" else b"IEND\xaeB`\x82"
        assert picture.content.endswith(end), "nothing hides behind the end"
