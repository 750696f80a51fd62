"""Turns untrusted bytes into a `Picture` to send: type by content, limits, orientation, scale, no metadata.

Pure: runs in a child process (`decoder_child.py`), so it imports neither settings nor logging. The declared type is
only a hint. Pictures are always encoded again from the pixels alone. So EXIF, comments, profiles and bytes behind a
picture's end are never sent. The policy decides which media are analyzed.
"""

from __future__ import annotations

import io
import re
import zipfile
from dataclasses import dataclass
from typing import Any, Literal, get_args

import puremagic
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile, get_sampling

from vision_app.providers.base import Picture

Reason = Literal[
    "empty",
    "unsupported_type",
    "too_large",
    "too_many_pixels",
    "undecodable",
    "decoding_memory",
    "decoding_timeout",
    "decoding_crashed",
]
"""The last three are causes in the child process: its memory limit, its time limit, or its death."""
REASONS: tuple[Reason, ...] = get_args(Reason)

MAX_PIXELS = 60_000_000  # 240 MB decoded; phones take 50 MP
MAX_SENT_IMAGE_BYTES = 15_000_000  # the vendor's "15 MB", read strictly
MAX_DOCUMENT_BYTES = 40_000_000  # the vendor's limit for text documents
MAX_UNPACKED_BYTES = 400_000_000  # of a ZIP document, as its directory says; nothing is unpacked here
MAX_ZIP_ENTRIES = 10_000
ACCEPTED_BY_VENDOR = {"JPEG": "image/jpeg", "PNG": "image/png", "TIFF": "image/tiff", "BMP": "image/bmp"}
DECODERS = (*ACCEPTED_BY_VENDOR, "WEBP", "GIF")
COLOURS = ("1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "LAB", "I", "I;16", "I;16B", "F")
"""Pillow's modes, besides RGB, in which a decoder may return a picture; a TIFF may have any of them. A child tries each
once before it limits itself, because the conversion from LAB, for example, imports a module at its first use."""
MAX_ERROR_CHARACTERS = 200
PNG_LEVEL = 4
"""Pillow's `optimize` takes four times as long and saves a fifteenth of the bytes (scripts/step_costs.py)."""
SHARPER_PNG = 1.1
"""A PNG is sent if it is at most so many times as large as the JPEG: it is sharper."""
HOPELESS_PNG = 2.0
"""A PNG that takes twice the bytes of the JPEG, scaled down in proportion, will not become smaller than the JPEG."""
UNSCALED_JPEG_QUALITY = 95  # of a picture that had no JPEG tables of its own

_OOXML = "application/vnd.openxmlformats-officedocument."
_ZIPPED = {
    "word/": f"{_OOXML}wordprocessingml.document",
    "ppt/": f"{_OOXML}presentationml.presentation",
    "xl/": f"{_OOXML}spreadsheetml.sheet",
    "META-INF/container.xml": "application/epub+zip",
}
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_POWERPOINT = "PowerPoint Document".encode("utf-16-le")
_LAYOUT = dict.fromkeys(map(ord, "\t\n\r\f\ufeff\xa0\xad\u200b\u200d\u2028"))  # not printable, but found in texts
_PATH = re.compile(r"""(?<![\w/])(?:[A-Za-z]:)?[/\\][^\s'",;)]+""")
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SENT_TYPES = frozenset(
    {"image/jpeg", "image/png", "application/pdf", "application/msword", "application/vnd.ms-powerpoint", "text/plain"}
    | set(_ZIPPED.values())
)
"""Every type that `decode` may answer with."""


class UnusablePicture(Exception):
    """This medium cannot be analyzed. Publish it again as JPEG, PNG, PDF or text, within the limits in `details`."""

    def __init__(self, reason: Reason, details: dict[str, Any]) -> None:
        super().__init__(f"{reason}: {details}")
        self.reason: Reason = reason
        self.details = details


@dataclass(frozen=True)
class DecodeRequest:
    """How to encode a picture. `max_dim`: its longer side in pixels; None: its own size. `max_bytes`: of the result."""

    max_dim: int | None
    jpeg_quality: int
    max_bytes: int = MAX_SENT_IMAGE_BYTES


def decode(content: bytes, declared_mime: str, wish: DecodeRequest) -> Picture:
    """Check `content` and encode it again. A document's content stays the same object. Raises UnusablePicture."""
    if not content:
        raise UnusablePicture("empty", {"size_bytes": 0})
    if len(content) > MAX_DOCUMENT_BYTES:
        raise UnusablePicture("too_large", {"size_bytes": len(content), "limit_bytes": MAX_DOCUMENT_BYTES})
    if (document := _document(content, declared_mime)) is not None:
        return document
    try:
        return _image(content, wish)
    except UnusablePicture:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as bomb:
        raise UnusablePicture("too_many_pixels", {"limit_pixels": MAX_PIXELS}) from bomb
    except MemoryError as fault:
        raise UnusablePicture("decoding_memory", {"seen_type": _seen(content)}) from fault
    except Exception as fault:  # hostile bytes make the decoders raise almost anything
        raise UnusablePicture("undecodable", {"error": told(fault), "seen_type": _seen(content)}) from fault


def told(fault: BaseException) -> str:
    """An error as a tenant may read it: about the picture, without details of the machine that decodes.

    An error of the system or of an import is not caused by the picture: only its type is given.
    """
    kind = type(fault).__name__
    if isinstance(fault, ImportError) or (isinstance(fault, OSError) and fault.errno is not None):
        return f"{kind}: this form of picture cannot be decoded here; save it as JPEG or PNG in RGB"
    return f"{kind}: {_PATH.sub('…', str(fault))}"[:MAX_ERROR_CHARACTERS]


def _image(content: bytes, wish: DecodeRequest) -> Picture:
    try:
        image = Image.open(io.BytesIO(content), formats=DECODERS)
    except UnidentifiedImageError as fault:
        allowed = ", ".join((*DECODERS, "PDF", "DOC", "DOCX", "PPT", "PPTX", "XLSX", "EPUB", "TXT"))
        raise UnusablePicture("unsupported_type", {"seen_type": _seen(content), "allowed": allowed}) from fault
    with image:
        if image.width * image.height > MAX_PIXELS:
            pixels = image.width * image.height
            raise UnusablePicture("too_many_pixels", {"pixels": pixels, "limit_pixels": MAX_PIXELS})
        sent = _copied(image) if wish.max_dim is None else _scaled(image, wish.max_dim, wish.jpeg_quality, len(content))
        return _checked(sent, wish.max_bytes)


def _scaled(image: Image.Image, limit: int, quality: int, size_bytes: int) -> Picture:
    """Upright, at most `limit` pixels on the longer side, first frame only. Scaled before any whole copy."""
    per_pixel = size_bytes / (image.width * image.height) if image.format == "PNG" else None
    image.draft("RGB", (limit, limit))
    image.load()
    turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION_TAG, 1))
    seen = _scalable(image)
    gap = None if seen.mode.startswith("I") else 2.0
    seen.thumbnail((limit, limit), Image.Resampling.LANCZOS, reducing_gap=gap)
    upright = _flattened(seen)
    if turn is not None:
        upright = upright.transpose(turn)
    encoded, mime = _encoded(upright, "JPEG", quality=quality), "image/jpeg"
    pixels = upright.width * upright.height
    if per_pixel is not None and per_pixel * pixels <= HOPELESS_PNG * len(encoded):
        # screenshots and scans are often smaller as PNG
        png = _encoded(upright, "PNG", compress_level=PNG_LEVEL)
        if len(png) <= SHARPER_PNG * len(encoded):
            encoded, mime = png, "image/png"
    return Picture(encoded, mime, upright.width, upright.height)


def _copied(image: Image.Image) -> Picture:
    """The same pixels, upright: a JPEG with its own tables and sampling (nearly lossless), the others as PNG."""
    image.load()
    turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION_TAG, 1))
    tables: dict[str, Any] = {"quality": UNSCALED_JPEG_QUALITY}
    if isinstance(image, JpegImageFile) and image.mode in ("RGB", "L"):
        sampling = get_sampling(image)
        tables = {"qtables": image.quantization, **({} if sampling < 0 else {"subsampling": sampling})}
    photographed = isinstance(image, JpegImageFile) or image.format == "WEBP"
    upright = _flattened(image)
    if turn is not None:
        upright = upright.transpose(turn)
    encoded = _encoded(upright, "JPEG", **tables) if photographed else _encoded(upright, "PNG")
    return Picture(encoded, "image/jpeg" if photographed else "image/png", upright.width, upright.height)


def _scalable(image: Image.Image) -> Image.Image:
    """The picture itself, or converted to full colour if its mode does not allow mixing of neighbouring colours."""
    if image.mode in ("1", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV"):
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    return image


def _flattened(image: Image.Image) -> Image.Image:
    """In colour or grey, eight bits, transparency on white, as a viewer shows it."""
    if image.mode.startswith("I"):  # 16 bits per pixel, or 32 of any range
        wide = image.convert("I")
        brightest = wide.getextrema()[1]
        scale = 256 if image.mode.startswith("I;16") else max(1.0, float(str(brightest)) / 255)
        return wide.point(lambda value: value / scale).convert("L")
    if image.mode in ("RGB", "L"):
        return image
    if not image.has_transparency_data:
        return image.convert("RGB")
    paper = Image.new("RGBA", image.size, "white")
    paper.alpha_composite(image.convert("RGBA"))
    return paper.convert("RGB")


def _encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    image.info.clear()  # otherwise comments, profiles and EXIF would be written again
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def _checked(picture: Picture, max_bytes: int) -> Picture:
    if len(picture.content) > max_bytes:
        details = {"size_bytes": len(picture.content), "limit_bytes": max_bytes}
        raise UnusablePicture("too_large", details)
    return picture


def _document(content: bytes, declared_mime: str) -> Picture | None:
    """The document as it is, or None if the bytes are not a document."""
    mime = declared_mime.partition(";")[0].strip().lower()
    if content.startswith(b"%PDF-"):
        return Picture(content, "application/pdf", 0, 0)
    if content.startswith(_OLE):
        kind = "vnd.ms-powerpoint" if _POWERPOINT in content else "msword"
        return Picture(content, f"application/{kind}", 0, 0)
    if content.startswith(b"PK\x03\x04"):
        return Picture(content, _zipped(content), 0, 0)
    if mime.startswith("text/"):
        return _plain_text(content, "utf-8-sig", "cp1251")
    return _plain_text(content, "utf-8-sig") if mime == "application/octet-stream" else None


def _zipped(content: bytes) -> str:
    """The type of a zipped document, read only from its directory: nothing is unpacked."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, UnicodeDecodeError) as fault:
        raise UnusablePicture("undecodable", {"error": type(fault).__name__, "seen_type": "zip"}) from fault
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > MAX_UNPACKED_BYTES or len(entries) > MAX_ZIP_ENTRIES:
        details = {"unpacked_bytes": unpacked, "entries": len(entries), "limit_unpacked_bytes": MAX_UNPACKED_BYTES}
        raise UnusablePicture("too_large", details)
    for prefix, mime in _ZIPPED.items():
        if any(entry.filename.startswith(prefix) for entry in entries):
            return mime
    raise UnusablePicture("unsupported_type", {"seen_type": "zip", "allowed": "DOCX, PPTX, XLSX, EPUB"})


def _plain_text(content: bytes, *encodings: str) -> Picture | None:
    """Text as UTF-8, or None. Older Russian documents use the Windows code page."""
    for encoding in encodings:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if not text.strip():
            raise UnusablePicture("empty", {"size_bytes": len(content)})
        if text.translate(_LAYOUT).isprintable():
            return Picture(text.encode(), "text/plain", 0, 0)
    return None


def _seen(content: bytes) -> str:
    """The type that the bytes seem to have, for the operator."""
    try:
        return str(puremagic.from_string(content[:4096], mime=True)) or "unknown"
    except (puremagic.PureError, ValueError):
        return "unknown"
