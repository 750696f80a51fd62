"""Brings the database to the schema this code expects: numbered SQL files, each applied once, in one transaction.

Several workers may start at once: with an advisory lock one migrates while the others wait. Never change a file after
it was applied anywhere. Add a new one, and change `schema.sql` so that its result is the same.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import asyncpg
import structlog

from .base import SinkUnavailable

log = structlog.get_logger(__name__)

ADVISORY_LOCK = 0x766973696F6E  # "vision"

LEDGER = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version    integer PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


class MigrationError(SinkUnavailable):
    """The database cannot be brought to our schema. Nothing was changed; do what the text says and start again."""


@dataclass(frozen=True)
class Migration:
    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations() -> list[Migration]:
    """All migrations that ship with this code, oldest first."""
    found = [
        Migration(int(entry.name.partition("_")[0]), entry.name.removesuffix(".sql"), entry.read_text("utf-8"))
        for entry in files("vision_app.stores").joinpath("migrations").iterdir()
        if entry.name.endswith(".sql")
    ]
    return sorted(found, key=lambda migration: migration.version)


async def migrate(pool: Any) -> list[str]:
    """Apply what is missing. Returns the names applied now. Raises MigrationError, or asyncpg's own errors."""
    async with pool.acquire() as connection:
        return await apply(connection)


async def apply(connection: Any) -> list[str]:
    """The same on one connection."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", ADVISORY_LOCK)
        await connection.execute(LEDGER)
        applied = {row["version"]: row["checksum"] for row in await connection.fetch("SELECT * FROM schema_migrations")}
        return [migration.name for migration in migrations() if await _apply(connection, migration, applied)]


async def _apply(connection: Any, migration: Migration, applied: dict[int, str]) -> bool:
    checksum = applied.get(migration.version)
    if checksum == migration.checksum:
        return False
    if checksum is not None:
        raise MigrationError(f"{migration.name} was changed after it was applied; restore it and add a new migration")
    try:
        await connection.execute(migration.sql)
    except asyncpg.DuplicateObjectError as fault:
        raise _foreign(migration, fault) from fault
    except asyncpg.DuplicateTableError as fault:
        raise _foreign(migration, fault) from fault
    await connection.execute(
        "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)",
        migration.version,
        migration.name,
        migration.checksum,
    )
    log.info("schema_migrated", migration=migration.name)
    return True


def _foreign(migration: Migration, fault: Exception) -> MigrationError:
    return MigrationError(
        f"{migration.name}: {fault}, and was not made by us; give this service a database of its own in DATABASE_URL. "
        "If it was and only the table schema_migrations is lost: `vision migrate repair`"
    )
