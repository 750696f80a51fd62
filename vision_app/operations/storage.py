"""The storage commands for operators. They use Postgres and S3 directly, so no worker needs to run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from vision_app.domain.storage import TYPE_OF, Aim
from vision_app.retention import accounts
from vision_app.retention.accounts import Usage
from vision_app.retention.cleanup import Report, clean_up
from vision_app.retention.lock import StorageBusy
from vision_app.retention.quota import request_clean_up
from vision_app.retention.upload import QuotaExceeded, Upload, UploadRefused, read_medium, upload
from vision_app.settings import Settings
from vision_app.stores.keys import account_of, parse_key
from vision_app.stores.migrate import migrate
from vision_app.stores.s3 import S3Store

from .connections import OperationError, api_of, postgres_of, s3_of

_STATUS = """
SELECT counted_at, cleaned_at, requested_at, drift_bytes,
    EXISTS (SELECT FROM expired_objects WHERE expired_at IS NULL) AS pending FROM storage_state"""


@dataclass(frozen=True)
class Listed:
    """One object of the bucket, and the tenant whose quota it uses."""

    key: str
    tenant_id: str
    content_type: str
    size_bytes: int
    modified_at: datetime | None


async def usage_and_state(settings: Settings) -> tuple[dict[str, Usage], Mapping[str, Any]]:
    """The usage of every tenant and type, and when the bucket was counted and cleaned up."""
    async with _postgres(settings) as pool:
        return await accounts.usage_by_account(pool), dict(await pool.fetchrow(_STATUS))


async def list_objects(settings: Settings, tenant_id: str | None, content_type: str | None) -> AsyncIterator[Listed]:
    """Objects of the bucket in the order of their keys, from a listing made now."""
    account = None if tenant_id is None else account_of(tenant_id)
    async with s3_of(settings) as s3:
        async for head in s3.list(""):
            place = parse_key(head.key)
            listed = Listed(head.key, place.account, TYPE_OF[place.kind], head.size_bytes, head.last_modified)
            if account in (None, place.account) and content_type in (None, listed.content_type):
                yield listed


async def run_cleanup(settings: Settings, aim: Aim, *, dry_run: bool) -> Report:
    """Clean up in this process, under the same lock as the workers. Raises OperationError while a worker cleans up."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_postgres(settings))
        s3 = await stack.enter_async_context(s3_of(settings))
        try:
            return await clean_up(settings, s3, aim, dry_run=dry_run)
        except StorageBusy as fault:
            raise OperationError(str(fault)) from fault


async def upload_file(settings: Settings, tenant_id: str, path: Path, mime_type: str | None) -> Upload:
    """Upload a file. If it is refused, raises OperationError with what to do and reports the refusal to the workers."""
    try:
        content, mime = read_medium(path, mime_type)
        async with AsyncExitStack() as stack:
            pool = await stack.enter_async_context(_postgres(settings))
            s3: S3Store = await stack.enter_async_context(s3_of(settings))
            try:
                return await upload(settings, pool, s3, tenant_id, content, mime)
            except QuotaExceeded:
                await _report_refusal(settings, pool, tenant_id, len(content))
                raise
    except UploadRefused as fault:
        raise OperationError(str(fault)) from fault


async def _report_refusal(settings: Settings, pool: Any, tenant_id: str, size_bytes: int) -> None:
    """Ask a worker the same question: it counts and logs the refusal, and has the bucket cleaned up."""
    question = {"tenant_id": tenant_id, "size_bytes": size_bytes, "content_type": "media"}
    async with api_of(settings) as api:
        if not await api.tell("/api/v1/storage/quota/check", question):
            await request_clean_up(pool)


@asynccontextmanager
async def _postgres(settings: Settings) -> AsyncIterator[Any]:
    """Connections to a database with our tables; makes them if no worker has run yet."""
    async with postgres_of(settings) as pool:
        await migrate(pool)
        yield pool
