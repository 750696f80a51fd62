"""The objects below a prefix of the bucket, from a listing made now. Usage by tenant is in `vision_app/retention/`."""

from __future__ import annotations

from dataclasses import dataclass

from vision_app.stores.s3 import S3Store

GIB = 1024**3
SAMPLES = 5


@dataclass(frozen=True)
class Usage:
    """Number of objects, bytes and the first few keys."""

    objects: int
    size_bytes: int
    samples: tuple[str, ...] = ()

    @property
    def gib(self) -> float:
        return self.size_bytes / GIB


async def usage_of(s3: S3Store, *prefixes: str) -> Usage:
    """The usage below the prefixes. Raises StoreUnavailable, ObjectForbidden."""
    objects, size_bytes = 0, 0
    samples: list[str] = []
    for prefix in prefixes:
        async for head in s3.list(prefix):
            objects, size_bytes = objects + 1, size_bytes + head.size_bytes
            if len(samples) < SAMPLES:
                samples.append(head.key)
    return Usage(objects, size_bytes, tuple(samples))
