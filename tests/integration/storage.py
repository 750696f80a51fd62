"""A bucket and a database of their own for tests of storage, and objects as old as a test wants them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
from pydantic import SecretStr

from vision_app.domain.storage import DAY, TYPE_OF
from vision_app.operations.connections import postgres_of, s3_of
from vision_app.settings import Settings
from vision_app.stores.keys import parse_key
from vision_app.stores.migrate import migrate
from vision_app.stores.s3 import S3Store

SIZE = 10_000
"""Of every object; limits are scaled so that 15 GiB become 150 objects."""
SCALED: Mapping[str, float] = {
    name: gib * SIZE * 10 / 1024**3
    for name, gib in {
        "s3_total_limit_gb": 15,
        "s3_emergency_threshold_gb": 14,
        "s3_cleanup_target_gb": 12,
        "s3_per_tenant_limit_gb": 2,
        "s3_media_max_gb": 10,
        "s3_vision_max_gb": 2,
        "s3_crawl_max_gb": 2,
    }.items()
}


async def place_of_its_own(settings: Settings) -> Settings:
    """Settings with a fresh database, migrated, a bucket and limits that 150 objects reach."""
    name = f"storage_{uuid4().hex[:12]}"
    url = settings.database_url.get_secret_value()
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    database_url = SecretStr(urlunsplit(urlsplit(url)._replace(path=f"/{name}")))
    changes: dict[str, Any] = {"database_url": database_url, "s3_bucket": name.replace("_", "-"), **SCALED}
    own = settings.model_copy(update=changes)
    async with postgres_of(own) as pool:
        await migrate(pool)
    async with s3_of(own) as s3:
        await s3.ensure_bucket()
    return own


async def put_old(s3: S3Store, objects: Iterable[tuple[str, float]], size: int = SIZE) -> None:
    """Objects by key and age in days: rclone takes an object's time from its metadata."""
    now = time.time()
    await asyncio.gather(
        *(s3.put(key, bytes(size), metadata={"mtime": f"{now - days * DAY:.3f}"}) for key, days in objects)
    )


async def listed(s3: S3Store) -> dict[tuple[str, str], list[int]]:
    """A fresh listing: bytes and objects by account and content type."""
    found: dict[tuple[str, str], list[int]] = {}
    async for head in s3.list(""):
        place = parse_key(head.key)
        sums = found.setdefault((place.account, TYPE_OF[place.kind]), [0, 0])
        sums[0] += head.size_bytes
        sums[1] += 1
    return found


async def accounted(pool: Any) -> dict[tuple[str, str], list[int]]:
    """What `tenant_storage_usage` says."""
    rows = await pool.fetch("SELECT tenant_id, content_type, total_bytes, objects_count FROM tenant_storage_usage")
    return {(row[0], row[1]): [row[2], row[3]] for row in rows}


async def objects_by_tenant(s3: S3Store) -> Counter[str]:
    return Counter([parse_key(head.key).account async for head in s3.list("")])
