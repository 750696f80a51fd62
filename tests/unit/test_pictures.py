"""What becomes of the bytes of a medium before they are sent."""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile
import zlib
from importlib import resources
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from vision_app.prompts import PROMPT_KEYS, PROMPT_VERSION, VISION_VERSION, prompt
from vision_app.providers.base import Picture
from vision_app.providers.pictures import UnusablePicture, estimate_tokens, prepare
from vision_app.settings import Settings, load_settings

SETTINGS = load_settings()
TINY_PNG = bytes.fromhex(  # the assistant's own smoke fixture (sha256 4e5b10df…), with a wrong checksum in it
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000a49444154789c63000100000500010d0a2ddb0000000049454e44ae426082"
)
MAGIC = (b"", TINY_PNG[:40], b"GIF89a", b"\xff\xd8\xff", b"II*\x00", b"BM", b"PK\x03\x04", b"RIFF\x00\x00\x00\x00WEBP")


def encoded(form: str, size: tuple[int, int] = (300, 200), mode: str = "RGB", **options: Any) -> bytes:
    out = io.BytesIO()
    Image.effect_noise(size, 60).convert(mode).save(out, form, **options)
    return out.getvalue()


async def reason(content: bytes, mime: str = "image/jpeg", settings: Settings = SETTINGS) -> str:
    with pytest.raises(UnusablePicture) as caught:
        await prepare(content, mime, settings)
    return caught.value.reason


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF"])
async def test_every_accepted_form_becomes_jpeg_or_png(form: str) -> None:
    picture = await prepare(encoded(form), "application/x-anything", SETTINGS)
    assert picture.mime_type in ("image/jpeg", "image/png")
    assert (picture.width, picture.height) == (300, 200)
    with Image.open(io.BytesIO(picture.content)) as image:
        assert Image.MIME[str(image.format)] == picture.mime_type


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
async def test_every_colour_mode_of_png(mode: str) -> None:
    assert (await prepare(encoded("PNG", mode=mode), "image/png", SETTINGS)).width == 300


async def test_sixteen_bits_keep_their_brightness() -> None:
    deep = io.BytesIO()
    Image.frombytes("I;16", (64, 64), b"\x00\xc0" * 64 * 64).save(deep, "PNG")
    with Image.open(io.BytesIO((await prepare(deep.getvalue(), "image/png", SETTINGS)).content)) as image:
        assert image.convert("L").getpixel((32, 32)) == 0xC0


async def test_rarer_colour_modes() -> None:
    assert (await prepare(encoded("JPEG", mode="CMYK"), "image/jpeg", SETTINGS)).width == 300
    assert (await prepare(encoded("TIFF", mode="F"), "image/tiff", SETTINGS)).width == 300
    assert (await prepare(encoded("TIFF", mode="I"), "image/tiff", SETTINGS)).width == 300


async def test_large_pictures_are_scaled() -> None:
    picture = await prepare(encoded("JPEG", (3000, 1500)), "image/jpeg", SETTINGS)
    assert (picture.width, picture.height) == (1024, 512)


async def test_thin_pictures_keep_a_pixel() -> None:
    assert (await prepare(encoded("PNG", (5000, 2)), "image/png", SETTINGS)).height >= 1


async def test_drawings_stay_png() -> None:
    flat = io.BytesIO()
    Image.new("RGB", (800, 600), "white").save(flat, "PNG")
    assert (await prepare(flat.getvalue(), "image/png", SETTINGS)).mime_type == "image/png"


async def test_transparency_becomes_white() -> None:
    clear = io.BytesIO()
    Image.new("RGBA", (50, 50), (0, 0, 0, 0)).save(clear, "PNG")
    picture = await prepare(clear.getvalue(), "image/png", SETTINGS)
    with Image.open(io.BytesIO(picture.content)) as image:
        assert image.convert("RGB").getpixel((25, 25)) == (255, 255, 255)


async def test_photos_are_turned_upright_and_lose_their_metadata() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter
    exif[0x010E] = "secret place"
    picture = await prepare(encoded("JPEG", exif=exif, comment="secret place"), "image/jpeg", SETTINGS)
    assert (picture.width, picture.height) == (200, 300)
    assert b"secret" not in picture.content
    assert b"Exif" not in picture.content


async def test_text_in_a_png_is_stripped() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "secret place")
    assert b"secret" not in (await prepare(encoded("PNG", pnginfo=info), "image/png", SETTINGS)).content


async def test_the_smallest_picture_passes() -> None:
    assert (await prepare(TINY_PNG, "image/png", SETTINGS)).width == 1


async def test_without_preprocessing_the_bytes_stay() -> None:
    settings = load_settings(vision_preprocess_enabled=False)
    content = encoded("JPEG", (3000, 1500))
    assert (await prepare(content, "image/jpeg", settings)).content == content
    assert (await prepare(encoded("WEBP", (3000, 1500)), "image/webp", settings)).width == 3000
    assert await reason(encoded("BMP", (2400, 2400)), "image/bmp", settings) == "too_large"


async def test_faults_of_the_bytes() -> None:
    assert await reason(b"") == "empty"
    assert await reason(b" \n", "text/plain") == "empty"
    assert await reason(b"MZ\x90\x00" * 100) == "unsupported_type"
    assert await reason(encoded("ICO", (64, 64))) == "unsupported_type"
    assert await reason(encoded("JPEG")[:700]) == "undecodable"
    assert await reason(encoded("PNG")[:2000], "image/png") == "undecodable"
    assert await reason(b"PK\x03\x04 not a zip", "application/zip") == "undecodable"
    assert await reason(zipped("evil.exe"), "application/zip") == "unsupported_type"
    assert await reason(b"x" * 40_000_001, "text/plain") == "too_large"


@pytest.mark.parametrize("side", [7800, 9800, 14_000])
async def test_bombs_are_not_decoded(side: int) -> None:
    """Below Pillow's own warning, above it, and above its error: the header says it, whatever follows."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = TINY_PNG[:12] + header + struct.pack(">I", zlib.crc32(header)) + TINY_PNG[33:]
    assert await reason(bomb, "image/png") == "too_many_pixels"


def zipped(name: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, "x")
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "declared", "mime"),
    [
        (b"%PDF-1.7 ...", "image/jpeg", "application/pdf"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "application/msword", "application/msword"),
        (zipped("word/document.xml"), "x/y", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        (zipped("META-INF/container.xml"), "x/y", "application/epub+zip"),
        ("Привет, ёж".encode(), "text/plain; charset=utf-8", "text/plain"),
        ("Привет, ёж".encode(), "application/octet-stream", "text/plain"),
    ],
)
async def test_documents_pass_as_they_are(content: bytes, declared: str, mime: str) -> None:
    picture = await prepare(content, declared, SETTINGS)
    assert (picture.mime_type, picture.content, picture.width, picture.is_image) == (mime, content, 0, False)


async def test_old_russian_text_is_sent_as_utf_8() -> None:
    assert (
        await prepare("Акт №5, Казань".encode("cp1251"), "text/plain", SETTINGS)
    ).content.decode() == "Акт №5, Казань"


@given(st.binary(max_size=300), st.sampled_from(["", "image/png", "text/plain", "application/octet-stream"]))
async def test_any_bytes_are_a_picture_or_a_named_fault(content: bytes, mime: str) -> None:
    for magic in MAGIC:
        with contextlib.suppress(UnusablePicture):
            assert isinstance(await prepare(magic + content, mime, SETTINGS), Picture)


def test_the_estimate_is_above_what_was_observed_and_simulated() -> None:
    assert estimate_tokens(50_000, "image/jpeg", SETTINGS) >= 2599  # the assistant's log, one 1024 px picture
    assert estimate_tokens(10, "image/PNG", SETTINGS) == estimate_tokens(10**7, "image/png", SETTINGS)
    assert estimate_tokens(50_000, "image/png", load_settings(vision_preprocess_max_dim=2048)) > 5000
    assert estimate_tokens(10_000, "text/plain", SETTINGS) > 5000
    assert estimate_tokens(40_000_000, "application/pdf", SETTINGS) < 130_000


@pytest.mark.parametrize("key", PROMPT_KEYS)
def test_prompts_name_every_field_and_that_text_is_data(key: str) -> None:
    text = prompt(key)
    for name in ("classification", "description", "is_meme", "labels", "objects", "ocr", "infographic", "инструкции"):
        assert name in text
    assert prompt(key) == text
    assert (resources.files("vision_app.prompts") / f"{key}.txt").is_file()


def test_versions_and_unknown_keys() -> None:
    assert VISION_VERSION.endswith(f"#{PROMPT_VERSION}")
    assert prompt("../../etc/passwd") == prompt("default")
