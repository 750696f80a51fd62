"""A database from which something was dropped: what is missing is found and put back, and nothing else is touched."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from pydantic import SecretStr

from tests.integration.test_postgres_store import CATALOG
from tests.samples import post, unique
from vision_app.settings import Settings
from vision_app.stores.base import SinkUnavailable
from vision_app.stores.migrate import MigrationError, migrate, migrations
from vision_app.stores.postgres import PostgresSink, create_pool
from vision_app.stores.repair import inspect, repair


@pytest.fixture
async def settings(stack_settings: Settings) -> Settings:
    """Settings that lead to a database of its own, empty."""
    pool = await create_pool(stack_settings)
    name = unique("r").replace("-", "_")
    await pool.execute(f"CREATE DATABASE {name}")
    await pool.close()
    address = urlsplit(stack_settings.database_url.get_secret_value())
    url = SecretStr(urlunsplit(address._replace(path=f"/{name}")))
    return stack_settings.model_copy(update={"database_url": url})


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Any]:
    """A connection to that database, migrated."""
    pool = await create_pool(settings)
    await migrate(pool)
    await pool.close()
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    yield connection
    await connection.close()


async def catalogue(database: Any) -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in await database.fetch(CATALOG))


DROPS = [
    ("DROP TABLE budget_actions", ["table budget_actions is missing"]),
    ("DROP TABLE post_enrichment", ["table post_enrichment is missing"]),
    ("DROP TABLE storage_state", ["table storage_state is missing"]),
    ("DELETE FROM storage_state", ["rows storage_state.first is missing"]),
    (
        "DROP TABLE media_objects CASCADE",
        ["constraint post_media_map.post_media_map_media is missing", "table media_objects is missing"],
    ),
    ("DROP INDEX post_enrichment_data", ["index post_enrichment.post_enrichment_data is missing"]),
    ("DROP INDEX expired_objects_pending", ["index expired_objects.expired_objects_pending is missing"]),
    (
        "ALTER TABLE post_enrichment DROP CONSTRAINT post_enrichment_pkey",
        ["constraint post_enrichment.post_enrichment_pkey is missing"],
    ),
    (
        "ALTER TABLE budget_actions DROP CONSTRAINT budget_actions_value",
        ["constraint budget_actions.budget_actions_value is missing"],
    ),
]


@pytest.mark.parametrize(("drop", "found"), DROPS)
async def test_a_dropped_object_is_named_and_restored(database: Any, drop: str, found: list[str]) -> None:
    before = await catalogue(database)
    assert (await inspect(database)).is_sound
    await database.execute(drop)
    state = await inspect(database)
    assert sorted(map(str, state.missing)) == found
    assert not state.is_sound
    outcome = await repair(database)
    assert not (outcome.failed)
    assert not (outcome.only_new_rows)
    assert await catalogue(database) == before
    assert (await inspect(database)).is_sound
    assert await database.fetchval("SELECT count(*) FROM storage_state") == 1
    assert not (await repair(database)).done


async def test_every_table_can_be_restored_at_once(database: Any) -> None:
    before = await catalogue(database)
    for row in await database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        if row["tablename"] != "schema_migrations":
            await database.execute(f"DROP TABLE {row['tablename']} CASCADE")
    await repair(database)
    assert await catalogue(database) == before


async def test_a_column_comes_back_where_rows_allow_it(database: Any) -> None:
    await database.execute("ALTER TABLE expired_objects DROP COLUMN expired_at, DROP COLUMN reason")
    await database.execute(
        "INSERT INTO expired_objects (s3_key, tenant_id, kind, size_bytes) VALUES ('k', 't', 'm', 1)"
    )
    outcome = await repair(database)
    assert [str(one) for one in outcome.done if one.kind == "column"] == [
        "column expired_objects.expired_at is missing"
    ]
    [(column, why)] = outcome.failed
    assert (column.name, why.startswith("existing rows do not allow it")) == ("reason", True)
    assert "expired_objects_pending" in {one.name for one in outcome.done}, "what went with a column comes with it"


async def test_rows_without_their_reference_are_kept_and_new_ones_are_checked(
    database: Any, settings: Settings
) -> None:
    """The table that the others refer to was lost, with its rows."""
    sink = PostgresSink(settings)
    await sink.open()
    try:
        result = post()
        await sink.write([result])
        await database.execute("DROP TABLE media_objects CASCADE")
        with pytest.raises(SinkUnavailable, match="vision migrate repair"):
            await sink.write([result])
        outcome = await repair(database)
        assert [one.name for one in outcome.only_new_rows] == ["post_media_map_media"]
        assert outcome.emptied == ["media_objects"]
        assert await database.fetchval("SELECT count(*) FROM post_media_map") == 1
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await database.execute(
                "INSERT INTO post_media_map VALUES ('t', 'p', 'nowhere', 1, 'primary', $1)", datetime.now(UTC)
            )
        assert (await inspect(database)).is_sound
        assert await sink.write([result]) == [result], "without a restart"
        assert await database.fetchval("SELECT count(*) FROM media_objects") == 1
    finally:
        await sink.close()


async def test_a_differing_object_is_named_and_not_changed(database: Any) -> None:
    await database.execute("ALTER TABLE post_enrichment ALTER COLUMN trace_id TYPE varchar(9)")
    [difference] = (await inspect(database)).other
    assert "column post_enrichment.trace_id is 'character varying(9)' and should be 'text'" in str(difference)
    assert not (await repair(database)).done


async def test_a_lost_ledger_is_written_again(database: Any, settings: Settings) -> None:
    await database.execute("DROP TABLE schema_migrations")
    await database.execute("DROP INDEX post_enrichment_trace")
    pool = await create_pool(settings)
    try:
        with pytest.raises(MigrationError, match="vision migrate repair"):
            await migrate(pool)
        assert (await inspect(database)).ledger_lost
        assert (await repair(database)).ledger_rewritten
        assert (await inspect(database)).is_sound
        assert await migrate(pool) == []
    finally:
        await pool.close()


async def test_foreign_tables_are_not_taken_for_ours(settings: Settings) -> None:
    for text in ("post_id uuid", "id bigint"):
        connection = await asyncpg.connect(settings.database_url.get_secret_value())
        try:
            await connection.execute(f"DROP TABLE IF EXISTS post_enrichment; CREATE TABLE post_enrichment ({text})")
            before = await catalogue(connection)
            with pytest.raises(MigrationError, match="database of its own"):
                await repair(connection)
            assert await catalogue(connection) == before
        finally:
            await connection.close()


async def test_an_empty_database_is_new_and_not_broken(settings: Settings) -> None:
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    try:
        state = await inspect(connection)
        assert state.is_new
        assert state.pending == [migration.name for migration in migrations()]
        assert not state.missing or all(one.kind == "table" for one in state.missing)
        assert not await connection.fetch("SELECT FROM pg_class WHERE relnamespace = pg_my_temp_schema()")
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("UPDATE schema_migrations SET checksum = 'x' WHERE version = 2", "0002_media was changed"),
        ("INSERT INTO schema_migrations VALUES (9999, '9999_later', 'x')", "newer version"),
    ],
)
async def test_a_history_that_is_not_ours_is_named_and_nothing_is_repaired(
    database: Any, change: str, fault: str
) -> None:
    await database.execute(change)
    await database.execute("DROP TABLE budget_actions")
    [text] = (await inspect(database)).faults
    assert fault in text
    with pytest.raises(MigrationError, match=fault):
        await repair(database)
    assert await database.fetchval("SELECT to_regclass('budget_actions')") is None
