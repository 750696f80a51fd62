"""How the bytes of a medium are prepared for sending. Decoded in this process, for speed."""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile
import zlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageStat, PngImagePlugin

from vision_app.providers.base import Picture
from vision_app.providers.decoding import DecodeRequest, UnusablePicture, decode

SCALED = DecodeRequest(max_dim=1024, jpeg_quality=75)
UNSCALED = DecodeRequest(max_dim=None, jpeg_quality=75)
TINY_PNG = bytes.fromhex(  # the assistant's own smoke fixture (sha256 4e5b10df…), with a wrong checksum in it
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000a49444154789c63000100000500010d0a2ddb0000000049454e44ae426082"
)
MAGIC = (b"", TINY_PNG[:40], b"GIF89a", b"\xff\xd8\xff", b"II*\x00", b"BM", b"PK\x03\x04", b"RIFF\x00\x00\x00\x00WEBP")


def encoded(form: str, size: tuple[int, int] = (300, 200), mode: str = "RGB", **options: Any) -> bytes:
    out = io.BytesIO()
    Image.effect_noise(size, 60).convert(mode).save(out, form, **options)
    return out.getvalue()


def reason(content: bytes, mime: str = "image/jpeg", wish: DecodeRequest = SCALED) -> str:
    with pytest.raises(UnusablePicture) as caught:
        decode(content, mime, wish)
    return caught.value.reason


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF"])
def test_every_accepted_form_becomes_jpeg_or_png(form: str) -> None:
    picture = decode(encoded(form), "application/x-anything", SCALED)
    assert picture.mime_type in ("image/jpeg", "image/png")
    assert (picture.width, picture.height) == (300, 200)
    with Image.open(io.BytesIO(picture.content)) as image:
        assert Image.MIME[str(image.format)] == picture.mime_type


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_every_colour_mode_of_png(mode: str) -> None:
    assert (decode(encoded("PNG", mode=mode), "image/png", SCALED)).width == 300


def test_sixteen_bits_keep_their_brightness() -> None:
    deep = io.BytesIO()
    Image.frombytes("I;16", (64, 64), b"\x00\xc0" * 64 * 64).save(deep, "PNG")
    with Image.open(io.BytesIO((decode(deep.getvalue(), "image/png", SCALED)).content)) as image:
        assert image.convert("L").getpixel((32, 32)) == 0xC0


def test_rarer_colour_modes() -> None:
    assert (decode(encoded("JPEG", mode="CMYK"), "image/jpeg", SCALED)).width == 300
    assert (decode(encoded("TIFF", mode="F"), "image/tiff", SCALED)).width == 300
    assert (decode(encoded("TIFF", mode="I"), "image/tiff", SCALED)).width == 300


def test_large_pictures_are_scaled() -> None:
    picture = decode(encoded("JPEG", (3000, 1500)), "image/jpeg", SCALED)
    assert (picture.width, picture.height) == (1024, 512)


def test_thin_pictures_keep_a_pixel() -> None:
    assert (decode(encoded("PNG", (5000, 2)), "image/png", SCALED)).height >= 1


def test_drawings_stay_png() -> None:
    flat = io.BytesIO()
    Image.new("RGB", (800, 600), "white").save(flat, "PNG")
    assert (decode(flat.getvalue(), "image/png", SCALED)).mime_type == "image/png"


def test_transparency_becomes_white() -> None:
    clear = io.BytesIO()
    Image.new("RGBA", (50, 50), (0, 0, 0, 0)).save(clear, "PNG")
    picture = decode(clear.getvalue(), "image/png", SCALED)
    with Image.open(io.BytesIO(picture.content)) as image:
        assert image.convert("RGB").getpixel((25, 25)) == (255, 255, 255)


def test_photos_are_turned_upright_and_lose_their_metadata() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter
    exif[0x010E] = "secret place"
    picture = decode(encoded("JPEG", exif=exif, comment="secret place"), "image/jpeg", SCALED)
    assert (picture.width, picture.height) == (200, 300)
    assert b"secret" not in picture.content
    assert b"Exif" not in picture.content


def test_text_in_a_png_is_stripped() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "secret place")
    assert b"secret" not in (decode(encoded("PNG", pnginfo=info), "image/png", SCALED)).content


def test_the_smallest_picture_passes() -> None:
    assert (decode(TINY_PNG, "image/png", SCALED)).width == 1


def test_unscaled_a_jpeg_keeps_its_tables_and_its_look() -> None:
    original = encoded("JPEG", (3000, 1500), quality=88, subsampling="4:2:2")
    sent = decode(original, "image/jpeg", UNSCALED)
    before: Any
    after: Any  # a JPEG, with tables and layers
    with Image.open(io.BytesIO(original)) as before, Image.open(io.BytesIO(sent.content)) as after:
        assert (after.quantization, after.layer) == (before.quantization, before.layer)
        extremes: Any = ImageChops.difference(before, after).convert("L").getextrema()  # of one band: two numbers
        assert max(extremes) <= 16


@pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP", "GIF"])
def test_unscaled_everything_else_is_the_same_to_the_pixel(form: str) -> None:
    original = encoded(form, mode="L")
    sent = decode(original, "x/y", UNSCALED)
    assert sent.mime_type == "image/png"
    before: Any
    after: Any  # a JPEG, with tables and layers
    with Image.open(io.BytesIO(original)) as before, Image.open(io.BytesIO(sent.content)) as after:
        assert before.convert("L").tobytes() == after.convert("L").tobytes()


def test_what_is_too_large_for_the_vendor_unscaled() -> None:
    assert reason(encoded("BMP"), "image/bmp", replace(UNSCALED, max_bytes=50_000)) == "too_large"


def test_unscaled_pictures_are_upright_too() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    assert decode(encoded("JPEG", exif=turned), "image/jpeg", UNSCALED).height == 300
    assert decode(encoded("WEBP", (1200, 300)), "image/webp", UNSCALED).mime_type == "image/jpeg"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
@pytest.mark.parametrize("wish", [SCALED, UNSCALED], ids=["scaled", "unscaled"])
def test_large_pictures_of_every_mode_look_the_same(mode: str, wish: DecodeRequest) -> None:
    """After scaling and flattening, the left half is still dark and the right half light."""
    ground = Image.new("L", (3000, 1500), 40)
    ground.paste(220, (1500, 0, 3000, 1500))
    if mode == "I;16":
        ground = ground.convert("I").point(lambda value: value * 256).convert("I;16")
    else:
        ground = ground.convert(mode)
    out = io.BytesIO()
    ground.save(out, "PNG")
    with Image.open(io.BytesIO(decode(out.getvalue(), "image/png", wish).content)) as sent:
        grey = sent.convert("L")
    expected = (0, 255) if mode == "1" else (40, 220)
    for x, level in ((grey.width // 8, expected[0]), (grey.width * 7 // 8, expected[1])):
        around = grey.crop((x - 20, 20, x + 20, 200))
        assert mode == "1" or abs(ImageStat.Stat(around).mean[0] - level) <= 3


def test_faults_of_the_bytes() -> None:
    assert reason(b"") == "empty"
    assert reason(b" \n", "text/plain") == "empty"
    assert reason(b"MZ\x90\x00" * 100) == "unsupported_type"
    assert reason(encoded("ICO", (64, 64))) == "unsupported_type"
    assert reason(encoded("JPEG")[:700]) == "undecodable"
    assert reason(encoded("PNG")[:2000], "image/png") == "undecodable"
    assert reason(b"PK\x03\x04 not a zip", "application/zip") == "undecodable"
    assert reason(zipped("evil.exe"), "application/zip") == "unsupported_type"
    assert reason(b"x" * 40_000_001, "text/plain") == "too_large"


@pytest.mark.parametrize("side", [7800, 9800, 14_000])
def test_bombs_are_not_decoded(side: int) -> None:
    """Below Pillow's own warning, above it, and above its error. The header alone decides."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = TINY_PNG[:12] + header + struct.pack(">I", zlib.crc32(header)) + TINY_PNG[33:]
    assert reason(bomb, "image/png") == "too_many_pixels"


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
def test_documents_pass_as_they_are(content: bytes, declared: str, mime: str) -> None:
    picture = decode(content, declared, SCALED)
    assert (picture.mime_type, picture.content, picture.width, picture.is_image) == (mime, content, 0, False)


def test_old_russian_text_is_sent_as_utf_8() -> None:
    assert (decode("Акт №5, Казань".encode("cp1251"), "text/plain", SCALED)).content.decode() == "Акт №5, Казань"


@given(st.binary(max_size=300), st.sampled_from(["", "image/png", "text/plain", "application/octet-stream"]))
def test_any_bytes_are_a_picture_or_a_named_fault(content: bytes, mime: str) -> None:
    for magic in MAGIC:
        with contextlib.suppress(UnusablePicture):
            assert isinstance(decode(magic + content, mime, SCALED), Picture)
