"""From an object's bytes to a `Picture` that may be sent: type by content, limits, orientation, scale.

The declared type is a hint at most. Decoding is bounded (bytes, pixels, decoders, threads), because the bytes are
untrusted. Which media are wanted at all is the policy's matter, not decided here.
"""

from __future__ import annotations

import asyncio
import io
import math
import zipfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import puremagic
import structlog
from PIL import Image, ImageOps, UnidentifiedImageError

from vision_app.prompts import PROMPT_KEYS, prompt
from vision_app.providers.base import Picture
from vision_app.settings import Settings

log = structlog.get_logger(__name__)

Reason = Literal["unsupported_type", "too_many_pixels", "undecodable", "too_large", "empty"]

MAX_PIXELS = 60_000_000  # 240 MB decoded, twice at most (see _DECODERS); phones take 50 MP
MAX_SENT_IMAGE_BYTES = 15_000_000  # the vendor's "15 MB", read strictly
MAX_DOCUMENT_BYTES = 40_000_000  # the vendor's limit for text documents
ACCEPTED_AS_IS = {"JPEG": "image/jpeg", "PNG": "image/png", "TIFF": "image/tiff", "BMP": "image/bmp"}
DECODERS = (*ACCEPTED_AS_IS, "WEBP", "GIF")  # the last two become JPEG: the vendor takes neither

_OOXML = "application/vnd.openxmlformats-officedocument."
_ZIPPED = {
    "word/": f"{_OOXML}wordprocessingml.document",
    "ppt/": f"{_OOXML}presentationml.presentation",
    "xl/": f"{_OOXML}spreadsheetml.sheet",
    "META-INF/container.xml": "application/epub+zip",
}
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_POWERPOINT = "PowerPoint Document".encode("utf-16-le")
_LAYOUT = dict.fromkeys(map(ord, "\t\n\r\f\ufeff\xa0\xad\u200b\u200d\u2028"))  # not printable, yet found in texts
_DECODERS = ThreadPoolExecutor(max_workers=2, thread_name_prefix="pictures")

# Tokens. The vendor publishes no price of a picture; only `usage` tells. An observed call with a 1024 px picture cost
# 2599 tokens in all, above the 1792 that the assistant used to assume. So the estimate counts one token per 28 px patch
# and a base, two characters of the prompt per token (four are usual), and all that the model may write.
_PATCH_PX = 28
_IMAGE_BASE_TOKENS = 400
_UNSCALED_SIDE_PX = 2048  # assumed when scaling is switched off
_CHARS_PER_TOKEN = 2
_BYTES_PER_DOCUMENT_TOKEN = 2
_CONTEXT_TOKENS = 128_000  # no call can cost more of input than the model's window


class UnusablePicture(Exception):
    """This medium cannot be looked at. Publish it again as JPEG, PNG, PDF or text, within the limits in `details`."""

    def __init__(self, reason: Reason, details: dict[str, Any]) -> None:
        super().__init__(f"{reason}: {details}")
        self.reason: Reason = reason
        self.details = details


async def prepare(content: bytes, declared_mime: str, settings: Settings) -> Picture:
    """Check and scale `content` in a worker thread. Raises UnusablePicture."""
    return await asyncio.get_running_loop().run_in_executor(_DECODERS, _prepare, content, declared_mime, settings)


def estimate_tokens(size_bytes: int, mime_type: str, settings: Settings) -> int:
    """Upper bound of what one call about such a medium costs: picture or document, prompt and answer together.

    For pictures it does not depend on `size_bytes`: a small file may hold many pixels, and all are scaled to
    `vision_preprocess_max_dim`. For documents it is one token per two bytes, at most the model's window.
    """
    prompt_tokens = max(len(prompt(key)) for key in PROMPT_KEYS) // _CHARS_PER_TOKEN
    if mime_type.strip().lower().startswith("image/"):
        side = settings.vision_preprocess_max_dim if settings.vision_preprocess_enabled else _UNSCALED_SIDE_PX
        attached = _IMAGE_BASE_TOKENS + math.ceil(side / _PATCH_PX) ** 2
    else:
        attached = size_bytes // _BYTES_PER_DOCUMENT_TOKEN + _IMAGE_BASE_TOKENS
    return min(attached + prompt_tokens, _CONTEXT_TOKENS) + settings.vision_max_output_tokens


def estimate_text_tokens(prompt_text: str, settings: Settings) -> int:
    """Upper bound of what a question without a picture costs, answer included."""
    return len(prompt_text) // _CHARS_PER_TOKEN + settings.vision_max_output_tokens


def _prepare(content: bytes, declared_mime: str, settings: Settings) -> Picture:
    if not content:
        raise UnusablePicture("empty", {"size_bytes": 0})
    if len(content) > MAX_DOCUMENT_BYTES:
        raise UnusablePicture("too_large", {"size_bytes": len(content), "limit_bytes": MAX_DOCUMENT_BYTES})
    if (document := _document(content, declared_mime)) is not None:
        return document
    try:
        return _image(content, settings)
    except UnusablePicture:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as bomb:
        raise UnusablePicture("too_many_pixels", {"limit_pixels": MAX_PIXELS}) from bomb
    except Exception as fault:  # hostile bytes make the decoders raise almost anything
        log.info("picture_undecodable", error=repr(fault), size_bytes=len(content), declared_mime=declared_mime)
        raise UnusablePicture("undecodable", {"error": type(fault).__name__, "seen_type": _seen(content)}) from fault


def _image(content: bytes, settings: Settings) -> Picture:
    try:
        image = Image.open(io.BytesIO(content), formats=DECODERS)
    except UnidentifiedImageError as fault:
        allowed = ", ".join((*DECODERS, "PDF", "DOC", "DOCX", "PPT", "PPTX", "XLSX", "EPUB", "TXT"))
        raise UnusablePicture("unsupported_type", {"seen_type": _seen(content), "allowed": allowed}) from fault
    with image:
        if image.width * image.height > MAX_PIXELS:
            pixels = image.width * image.height
            raise UnusablePicture("too_many_pixels", {"pixels": pixels, "limit_pixels": MAX_PIXELS})
        mime = ACCEPTED_AS_IS.get(image.format or "")
        if mime is not None and not settings.vision_preprocess_enabled:
            image.load()
            return _checked(Picture(content, mime, image.width, image.height))
        return _checked(_scaled(image, settings))


def _scaled(image: Image.Image, settings: Settings) -> Picture:
    """Upright, without metadata, at most `vision_preprocess_max_dim` on its longer side, first frame only."""
    limit = settings.vision_preprocess_max_dim if settings.vision_preprocess_enabled else max(image.size)
    lossless = image.format == "PNG"
    image.draft("RGB", (limit, limit))
    upright = _flattened(ImageOps.exif_transpose(image))
    upright.thumbnail((limit, limit), Image.Resampling.LANCZOS)
    encoded, mime = _encoded(upright, "JPEG", quality=settings.vision_preprocess_jpeg_quality), "image/jpeg"
    if lossless:  # screenshots and scans are often smaller, and always sharper, as PNG
        png = _encoded(upright, "PNG", optimize=True)
        if len(png) <= len(encoded):
            encoded, mime = png, "image/png"
    return Picture(encoded, mime, upright.width, upright.height)


def _flattened(image: Image.Image) -> Image.Image:
    """In colour or grey, eight bits, transparency on white: what a viewer would see."""
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
    image.info.clear()  # else comments, profiles and EXIF would be written again
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def _checked(picture: Picture) -> Picture:
    if len(picture.content) > MAX_SENT_IMAGE_BYTES:
        details = {"size_bytes": len(picture.content), "limit_bytes": MAX_SENT_IMAGE_BYTES}
        raise UnusablePicture("too_large", details)
    return picture


def _document(content: bytes, declared_mime: str) -> Picture | None:
    """The document as it is, or None if the bytes are not one."""
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
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, UnicodeDecodeError) as fault:
        raise UnusablePicture("undecodable", {"error": type(fault).__name__, "seen_type": "zip"}) from fault
    for prefix, mime in _ZIPPED.items():
        if any(name.startswith(prefix) for name in names):
            return mime
    raise UnusablePicture("unsupported_type", {"seen_type": "zip", "allowed": "DOCX, PPTX, XLSX, EPUB"})


def _plain_text(content: bytes, *encodings: str) -> Picture | None:
    """Text as UTF-8, or None. Older Russian documents come in the Windows code page."""
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
    """What the bytes look like, for the operator."""
    try:
        return str(puremagic.from_string(content[:4096], mime=True)) or "unknown"
    except (puremagic.PureError, ValueError):
        return "unknown"
