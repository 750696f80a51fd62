"""Uploaded files: the store (in memory, separated by owner), and a reader for uploads in a multipart body."""

from __future__ import annotations

import hashlib
import time
import uuid
from dataclasses import dataclass
from typing import Any

from aiohttp import BodyPartReader, web

from vision_app.simulator.config import DOCUMENT_MAX_BYTES, MULTIPART_OVERHEAD_BYTES, STORED_FILES_MAX_BYTES
from vision_app.simulator.errors import api_error, invalid
from vision_app.simulator.oauth import Caller
from vision_app.simulator.sniff import FileType, sniff


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An uploaded file and what is known about it."""

    id: str
    owner: tuple[str, str]
    data: bytes
    sha256: str
    filename: str
    type: FileType
    created_at: int

    def document(self) -> dict[str, Any]:
        """The vendor's File object."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.data),
            "created_at": self.created_at,
            "filename": self.filename,
            "purpose": "general",
            "access_policy": "private",
            "modalities": [self.type.modality],
        }


class FileStore:
    """Files by id. A file is visible only to the client id and X-Client-ID that uploaded it."""

    def __init__(self) -> None:
        self._files: dict[str, StoredFile] = {}

    def add(self, caller: Caller, filename: str, kind: FileType, data: bytes, sha256: str) -> StoredFile:
        """Store a file. Raises ApiError 413 when the simulator itself is full."""
        if sum(len(file.data) for file in self._files.values()) + len(data) > STORED_FILES_MAX_BYTES:
            raise api_error(413, "Simulator storage is full: delete files or POST /admin/reset")
        file = StoredFile(str(uuid.uuid4()), caller.owner, data, sha256, filename, kind, int(time.time()))
        self._files[file.id] = file
        return file

    def get(self, caller: Caller, file_id: str) -> StoredFile:
        """A file. Raises ApiError 404, also for another owner's file."""
        file = self._files.get(file_id)
        if file is None or file.owner != caller.owner:
            raise api_error(404, "No such file")
        return file

    def delete(self, caller: Caller, file_id: str) -> StoredFile:
        file = self.get(caller, file_id)
        del self._files[file_id]
        return file

    def of(self, caller: Caller) -> list[StoredFile]:
        return [file for file in self._files.values() if file.owner == caller.owner]

    def all(self) -> list[StoredFile]:
        return list(self._files.values())

    def clear(self) -> None:
        self._files.clear()


@dataclass(frozen=True, slots=True)
class Upload:
    """A file as received, not yet accepted."""

    filename: str
    purpose: str
    data: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    def file_type(self) -> FileType:
        """The type by content. Raises ApiError: 400 not accepted, 413 too large, 422 wrong purpose."""
        if self.purpose != "general":
            raise invalid("purpose must be general")
        kind = sniff(self.data)
        if kind is None:
            raise api_error(400, "Unsupported file type")
        if len(self.data) > kind.max_bytes:
            raise api_error(413)
        return kind


async def read_upload(request: web.Request) -> Upload:
    """Read the multipart body, parts in any order. Raises ApiError 400 or 413."""
    if not request.content_type.startswith("multipart/"):
        raise api_error(400, "multipart/form-data expected")
    if (request.content_length or 0) > DOCUMENT_MAX_BYTES + MULTIPART_OVERHEAD_BYTES:
        raise api_error(413)
    filename, data, purpose = "", None, ""
    try:
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader):
                raise api_error(400, "Nested multipart is not accepted")
            if part.name == "file":
                filename, data = part.filename or "upload", await _read(part, DOCUMENT_MAX_BYTES)
            elif part.name == "purpose":
                purpose = (await _read(part, 1024)).decode(errors="replace").strip()
            else:
                await _read(part, MULTIPART_OVERHEAD_BYTES)
    except (ValueError, AssertionError) as fault:  # aiohttp's multipart reader uses both for a broken body
        raise api_error(400, "Malformed multipart body") from fault
    if not data:
        raise api_error(400, "Part 'file' is missing or empty")
    return Upload(filename, purpose, data)


async def _read(part: BodyPartReader, limit: int) -> bytes:
    data = bytearray()
    while chunk := await part.read_chunk(256 * 1024):
        data += chunk
        if len(data) > limit:
            raise api_error(413)
    return bytes(data)
