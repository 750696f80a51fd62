"""Detects the type of a file from its bytes alone, among the types that the vendor accepts."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass

from vision_app.simulator.config import AUDIO_MAX_BYTES, DOCUMENT_MAX_BYTES, IMAGE_MAX_BYTES

_LIMITS = {"image": IMAGE_MAX_BYTES, "audio": AUDIO_MAX_BYTES, "text": DOCUMENT_MAX_BYTES}

_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"II*\x00", "image/tiff"),
    (0, b"MM\x00*", "image/tiff"),
    (0, b"BM", "image/bmp"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/msword"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"\xff\xfb", "audio/mpeg"),
    (0, b"OggS", "audio/ogg"),
    (8, b"WAVE", "audio/wav"),
    (4, b"ftyp", "audio/mp4"),
    (0, b"\x1a\x45\xdf\xa3", "audio/webm"),
)

_REFUSED = ((0, b"GIF8"), (8, b"WEBP"), (0, b"\x00\x00\x00\x0cJXL "), (0, b"MZ"), (0, b"\x7fELF"))

_ZIPPED = {
    "word/": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "ppt/": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "xl/": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "META-INF/container.xml": "application/epub+zip",
}


@dataclass(frozen=True, slots=True)
class FileType:
    """An accepted type: its MIME type and its modality (`image`, `audio` or `text`)."""

    mime: str
    modality: str

    @property
    def max_bytes(self) -> int:
        return _LIMITS[self.modality]


def sniff(data: bytes) -> FileType | None:
    """The type of `data`, or None if it is not one of the accepted types."""
    if any(data[at : at + len(magic)] == magic for at, magic in _REFUSED):
        return None
    for at, magic, mime in _SIGNATURES:
        if data[at : at + len(magic)] == magic:
            return FileType(mime, _modality(mime))
    if data.startswith(b"PK\x03\x04"):
        return _zipped(data)
    return FileType("text/plain", "text") if _is_text(data) else None


def _modality(mime: str) -> str:
    family = mime.partition("/")[0]
    return family if family in ("image", "audio") else "text"


def _zipped(data: bytes) -> FileType | None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return None
    for prefix, mime in _ZIPPED.items():
        if any(name.startswith(prefix) for name in names):
            return FileType(mime, "text")
    return None


def _is_text(data: bytes) -> bool:
    if not data.strip() or b"\x00" in data:
        return False
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return False
    return True
