"""Brings the database to the schema this code expects: numbered SQL files, each applied once, in one transaction.

Several workers may start at once: with an advisory lock one migrates while the others wait. Never change a file after
it was applied anywhere. Add a new one, and change `schema.sql` so that its result is the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import asyncpg
import structlog

from vision_app.clients.postgres import MIGRATE
from vision_app.texts import say

from .base import SinkUnavailable
from .rights import missing_grants, quoted

log = structlog.get_logger(__name__)

ADVISORY_LOCK = 0x766973696F6E  # "vision"

STATEMENT_SECONDS = 600.0
"""Time for one migration: some write or index every row. Only a connection's own statements are limited to less."""

MAY_CREATE = "SELECT coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)"

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
    """Apply what is missing, and check that we may use the tables. Returns the names applied now.

    A role without the right to change tables is enough when nothing is missing. Raises MigrationError, and asyncpg's
    own errors.
    """
    async with pool.acquire() as connection:
        missing = await not_applied(connection)
        if missing and not await connection.fetchval(MAY_CREATE):
            raise MigrationError(may_not_create(await connection.fetchval("SELECT current_user"), missing))
        applied = await apply(connection) if missing else []
        if grants := await missing_grants(connection):
            raise MigrationError(lacks_rights(grants))
        return applied


def may_not_create(role: str, missing: Sequence[str]) -> str:
    """What to do if the worker's role may not make or change the tables."""
    return say(
        "{role} may not make or change tables, and these are not applied: {missing}; {remedy}, or let it "
        "make them: GRANT CREATE, USAGE ON SCHEMA public TO {quoted_role}",
        role=role,
        missing=", ".join(missing),
        remedy=say(MIGRATE),
        quoted_role=quoted(role),
    )


def lacks_rights(grants: Sequence[str]) -> str:
    """What to do if the worker's role may not use the tables."""
    return say(
        "the user of DATABASE_URL lacks rights; {remedy}, which grants them, or have it done: {grants}",
        remedy=say(MIGRATE),
        grants="; ".join(grants),
    )


async def not_applied(connection: Any) -> list[str]:
    """The names of migrations that `apply` would apply or find changed. Raises asyncpg's errors."""
    if await connection.fetchval("SELECT to_regclass('schema_migrations')") is None:
        return [migration.name for migration in migrations()]
    rows = await connection.fetch("SELECT version, checksum FROM schema_migrations")
    applied = {row["version"]: row["checksum"] for row in rows}
    return [migration.name for migration in migrations() if applied.get(migration.version) != migration.checksum]


async def apply(connection: Any) -> list[str]:
    """Apply what is missing, on one connection. Returns the names applied now."""
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
        raise MigrationError(
            say("{name} was changed after it was applied; restore it and add a new migration", name=migration.name)
        )
    try:
        await connection.execute(migration.sql, timeout=STATEMENT_SECONDS)
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
        say(
            "{name}: {fault}, and was not made by us; give this service a database of its own in DATABASE_URL. "
            "If it was and only the table schema_migrations is lost: `vision migrate repair`",
            name=migration.name,
            fault=fault,
        )
    )
