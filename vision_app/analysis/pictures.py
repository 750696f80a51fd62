"""Reads the picture of a task from S3, compares its hash with the event's, and prepares it for sending."""

from __future__ import annotations

import hashlib

from vision_app.messages import Failed, Medium, Skipped
from vision_app.providers.base import Picture
from vision_app.providers.decoders import Decoders
from vision_app.providers.decoding import UnusablePicture
from vision_app.stores.s3 import ObjectForbidden, ObjectMissing, ObjectTooLarge, S3Store

MAX_OBJECT_BYTES = 41_943_040


class Pictures:
    """Reads the pictures of tasks."""

    def __init__(self, s3: S3Store, decoders: Decoders) -> None:
        self._s3, self._decoders = s3, decoders

    async def read(self, medium: Medium) -> Picture | Skipped | Failed:
        """The picture, or the outcome of one that cannot be sent. Raises StoreUnavailable, DecodersUnavailable."""
        try:
            content = await self._s3.read(medium.s3_key, MAX_OBJECT_BYTES)
        except ObjectMissing:
            return Skipped(reason="s3_missing", details={"s3_key": medium.s3_key})
        except ObjectForbidden:
            return Skipped(reason="s3_forbidden", details={"s3_key": medium.s3_key})
        except ObjectTooLarge as fault:
            return Failed(reason="too_large", details={"error": str(fault)})
        seen = hashlib.sha256(content).hexdigest()
        if seen != medium.sha256:
            return Failed(reason="hash_mismatch", details={"expected": medium.sha256, "found": seen})
        try:
            return await self._decoders.prepare(content, medium.mime_type)
        except UnusablePicture as fault:
            return Failed(reason=fault.reason, details=fault.details)
