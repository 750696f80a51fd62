"""Postgres: the schema, what counts as a post's result, and what readers see."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import orjson
import pytest
from pydantic import SecretStr

from tests.samples import AT, AT_MS, again, analyzed, medium, missing, post, unique
from vision_app.messages import Charged, Deferred, Failed, PostResult
from vision_app.settings import Settings
from vision_app.stores.base import Rejected, SinkUnavailable
from vision_app.stores.migrate import MigrationError, migrate, migrations
from vision_app.stores.postgres import PostgresSink, create_pool
from vision_app.stores.posts import PostsReader

# everything a reader of the catalogs can tell of our objects, in an order of its own
CATALOG = """
SELECT 'column' AS kind, table_name::text, column_name::text, ordinal_position::text, data_type::text,
       is_nullable::text, column_default::text, is_identity::text || generation_expression::text
  FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL SELECT 'index', tablename, indexname, indexdef, '', '', '', '' FROM pg_indexes WHERE schemaname = 'public'
UNION ALL
SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated::text, '', '', ''
  FROM pg_constraint WHERE connamespace = 'public'::regnamespace
ORDER BY 1, 2, 3, 4"""

GUIDE = """
SELECT
    pe.vision_analyzed_at,
    pe.vision_provider,
    pe.vision_model,
    pe.vision_is_meme,
    pe.vision_classification,
    pe.vision_tokens_used,
    pe.s3_vision_keys,
    pe.s3_media_keys
FROM post_enrichment pe
WHERE pe.post_id = $1"""


@pytest.fixture
async def empty_database(pool: Any, stack_settings: Settings) -> Settings:
    """Settings that lead to a database of its own. It goes when the stack's data goes."""
    name = unique("d").replace("-", "_")
    await pool.execute(f"CREATE DATABASE {name}")
    address = urlsplit(stack_settings.database_url.get_secret_value())
    url = SecretStr(urlunsplit(address._replace(path=f"/{name}")))
    return stack_settings.model_copy(update={"database_url": url})


async def test_migrating_from_nothing_gives_the_schema_of_the_file(empty_database: Settings) -> None:
    migrated = await create_pool(empty_database)
    try:
        assert await migrate(migrated) == [migration.name for migration in migrations()]
        assert await migrate(migrated) == []
        by_migrations = await migrated.fetch(CATALOG)
        await migrated.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        await migrated.execute(files("vision_app.stores").joinpath("schema.sql").read_text("utf-8"))
        by_file = await migrated.fetch(CATALOG)
    finally:
        await migrated.close()
    assert [tuple(row) for row in by_migrations] == [tuple(row) for row in by_file]
    tables = {row["table_name"] for row in by_file if row["kind"] == "column"}
    assert {"post_enrichment", "media_objects", "post_media_map", "tenant_storage_usage", "budget_actions"} <= tables


async def test_a_user_without_rights_is_an_outage_that_says_what_to_grant(empty_database: Settings, pool: Any) -> None:
    """What the worker logs while it waits."""
    guest = unique("guest").replace("-", "_")
    await pool.execute(f"CREATE ROLE {guest} LOGIN")
    address = urlsplit(empty_database.database_url.get_secret_value())
    url = SecretStr(urlunsplit(address._replace(netloc=f"{guest}@{address.netloc.rpartition('@')[2]}")))
    sink = PostgresSink(empty_database.model_copy(update={"database_url": url}))
    try:
        with pytest.raises(SinkUnavailable, match="let it make them: GRANT CREATE, USAGE ON SCHEMA public TO"):
            await sink.open()
    finally:
        await sink.close()
        await pool.execute(f"DROP ROLE {guest}")


async def test_workers_that_start_together_migrate_once(empty_database: Settings) -> None:
    pools = [await create_pool(empty_database) for _ in range(3)]
    try:
        applied = await asyncio.gather(*(migrate(pool) for pool in pools))
    finally:
        for pool in pools:
            await pool.close()
    assert sorted(len(names) for names in applied) == [0, 0, len(migrations())]


async def test_a_migration_changed_afterwards_is_refused(empty_database: Settings) -> None:
    pool = await create_pool(empty_database)
    try:
        await migrate(pool)
        await pool.execute("UPDATE schema_migrations SET checksum = 'other' WHERE version = 1")
        with pytest.raises(MigrationError, match="0001_post_enrichment was changed"):
            await migrate(pool)
    finally:
        await pool.close()


async def test_a_database_with_a_foreign_table_is_left_alone(empty_database: Settings) -> None:
    pool = await create_pool(empty_database)
    try:
        await pool.execute("CREATE TABLE post_enrichment (post_id uuid)")
        with pytest.raises(MigrationError, match="DATABASE_URL"):
            await migrate(pool)
        assert await pool.fetchval("SELECT to_regclass('schema_migrations')") is None
    finally:
        await pool.close()


async def test_the_guides_query_finds_every_column_filled(sink: PostgresSink, pool: Any) -> None:
    result = post([missing(), analyzed(tokens=1320)])
    await sink.write([result])
    (row,) = await pool.fetch(GUIDE, result.event.post_id)
    assert None not in row.values()
    assert (row["vision_provider"], row["vision_model"], row["vision_is_meme"]) == ("gigachat", "GigaChat-Pro", True)
    assert (row["vision_tokens_used"], row["vision_analyzed_at"]) == (1320, AT)
    seen = {"type": "photo", "confidence": 0.8, "tags": ["кот", "окно"], "tags_from_text": []}
    assert orjson.loads(row["vision_classification"]) == seen
    assert orjson.loads(row["s3_media_keys"]) == [m.s3_key for m in result.event.media_files]
    assert len(orjson.loads(row["s3_vision_keys"])) == 1


async def test_data_keeps_the_fields_of_the_older_readers(sink: PostgresSink, pool: Any) -> None:
    result = post()
    await sink.write([result])
    (row,) = await PostsReader(pool).get(result.event.post_id)
    data, listed = row["data"], result.event.media_files[0]
    assert (data["classification"], data["is_meme"], data["ocr"]["text"]) == ("photo", True, "ПРИВЕТ")
    assert data["s3_keys"] == {"image": listed.s3_key}
    assert data["s3_keys_list"] == [
        {"sha256": listed.sha256, "s3_key": listed.s3_key, "analyzed_at": AT.isoformat()},
    ]
    assert data["trace_id"] == row["trace_id"] == result.event.trace_id
    assert data["event"]["channel_id"] == "-100200"


@pytest.mark.parametrize("outcome", [missing(), Failed(reason="analysis_failed")])
async def test_a_result_without_analysis_never_replaces_one_with(
    sink: PostgresSink, pool: Any, outcome: Failed
) -> None:
    first = post()
    opened = again(first, [None], (AT_MS, 2))
    worse = again(first, [outcome], (AT_MS, 3))
    await sink.write([first])
    await sink.write([opened])
    assert await sink.write([worse]) == []
    (row,) = await PostsReader(pool).get(first.event.post_id)
    assert (row["status"], row["vision_description"]) == ("ok", "Кот на окне")
    assert row["in_work_since"] is None


async def test_the_same_holds_within_one_batch(sink: PostgresSink, pool: Any) -> None:
    first = post()
    opened, worse = again(first, [None], (AT_MS, 2)), again(first, [missing()], (AT_MS, 3))
    assert await sink.write([first, opened, worse]) == [first]
    (row,) = await PostsReader(pool).get(first.event.post_id)
    assert (row["status"], row["in_work_since"]) == ("ok", None)


async def test_a_better_result_replaces_a_skipped_one(sink: PostgresSink, pool: Any) -> None:
    skipped = post([missing()])
    assert await sink.write([skipped]) == [skipped]
    better = again(skipped, [analyzed()], (AT_MS, 2))
    assert await sink.write([better]) == [better]
    (row,) = await PostsReader(pool).get(skipped.event.post_id)
    assert (row["status"], row["vision_provider"]) == ("ok", "gigachat")


async def test_a_skipped_post_says_why_and_has_no_analysis_time(sink: PostgresSink, pool: Any) -> None:
    result = post([missing(), Deferred(reason="budget", retry_at=AT)])
    await sink.write([result])
    (row,) = await PostsReader(pool).get(result.event.post_id)
    assert (row["status"], row["vision_provider"], row["vision_analyzed_at"]) == ("skipped", "none", None)
    assert [item["reason"] for item in row["data"]["enrichments"]] == ["s3_missing", "budget"]


async def test_an_opened_post_is_a_row_until_it_completes(sink: PostgresSink, pool: Any) -> None:
    reader, opened = PostsReader(pool), post([None, None])
    tenant = opened.event.tenant_id
    assert await sink.write([opened]) == [], "nothing to announce yet"
    assert await sink.write([opened]) == []
    (row,) = await reader.stuck(datetime.now(UTC) + timedelta(days=3650), tenant)
    assert (row["status"], len(row["data"]["media"])) == ("in_work", 2)
    done = again(opened, [analyzed(), missing()], (AT_MS, 9))
    assert await sink.write([done]) == [done]
    assert await sink.write([opened]) == [], "an opening delivered late"
    assert await reader.stuck(datetime.now(UTC) + timedelta(days=3650), tenant) == []


async def test_reopening_keeps_the_results_and_shows_since_when(sink: PostgresSink, pool: Any) -> None:
    first = post()
    await sink.write([first])
    (before,) = await PostsReader(pool).get(first.event.post_id)
    for number in (5, 6):
        await sink.write([again(first, [None], (AT_MS + number, number))])
    (after,) = await PostsReader(pool).get(first.event.post_id)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"in_work_since", "updated_at"}
    assert after["in_work_since"] == AT + timedelta(milliseconds=5), "since the first of the two"


async def test_media_are_counted_once_per_post(sink: PostgresSink, pool: Any) -> None:
    tenant, shared = unique("tenant"), medium()
    posts = [post([analyzed()] * 2, tenant=tenant, media=[shared, shared]) for _ in range(3)]
    for _ in range(2):
        await sink.write(posts)
    row = await pool.fetchrow("SELECT * FROM media_objects WHERE tenant_id = $1", tenant)
    assert (row["refs_count"], row["s3_key"], row["mime"]) == (3, shared.s3_key, "image/png")
    assert await pool.fetchval("SELECT count(*) FROM post_media_map WHERE tenant_id = $1", tenant) == 3


async def test_two_workers_with_the_same_picture_do_not_disturb_each_other(stack_settings: Settings, pool: Any) -> None:
    tenant, media = unique("tenant"), [medium() for _ in range(20)]
    sinks = [PostgresSink(stack_settings) for _ in range(2)]
    for sink in sinks:
        await sink.open()
    batches = [
        [post([analyzed()], tenant=tenant, media=[m]) for m in (media if number % 2 else reversed(media))]
        for number in range(10)
    ]
    try:
        await asyncio.gather(*(sinks[number % 2].write(batch) for number, batch in enumerate(batches)))
    finally:
        for sink in sinks:
            await sink.close()
    counts = await pool.fetch("SELECT DISTINCT refs_count FROM media_objects WHERE tenant_id = $1", tenant)
    assert [row["refs_count"] for row in counts] == [10]


async def test_the_days_spending_is_read_per_tenant_and_day(sink: PostgresSink, pool: Any) -> None:
    reader, tenant, today = PostsReader(pool), unique("tenant"), datetime.now(UTC)
    fresh = analyzed(tokens=100, analyzed_at=today)
    older = analyzed(tokens=7, analyzed_at=today - timedelta(days=1))
    twin = medium()
    await sink.write(
        [
            post([older, fresh, analyzed(cached=True, analyzed_at=today)], tenant=tenant),
            post([fresh, fresh], tenant=tenant, media=[twin, twin]),
            post([Failed(reason="analysis_failed", details={"tokens_billed": 30})], tenant=tenant),
            post([fresh]),
        ]
    )
    assert await reader.spent_today(tenant, today.date()) == 230
    assert await reader.spent_today(tenant, str((today - timedelta(days=2)).date())) == 0
    await reader.record_action(tenant, "reset", "ivan")
    assert await reader.spent_today(tenant, today.date()) == 0
    later = analyzed(tokens=5, analyzed_at=datetime.now(UTC) + timedelta(milliseconds=1))
    await sink.write([post([later], tenant=tenant)])
    assert await reader.spent_today(tenant, today.date()) == 5


async def test_the_operators_last_word_counts(sink: PostgresSink, pool: Any) -> None:
    reader, tenant = PostsReader(pool), unique("tenant")
    assert (await reader.last_limit(tenant), await reader.last_reset(tenant)) == (None, None)
    assert not await reader.paused(tenant)
    for limit in (10, 2**40):
        await reader.record_action(tenant, "set_limit", "ivan", limit)
    await reader.record_action(tenant, "pause", "ivan")
    assert await reader.last_limit(tenant) == 2**40
    assert await reader.paused(tenant)
    await reader.record_action(tenant, "set_limit", "ivan", None)
    await reader.record_action(tenant, "resume", "ivan")
    assert await reader.last_limit(tenant) is None
    assert not await reader.paused(tenant)
    with pytest.raises(asyncpg.CheckViolationError):
        await reader.record_action(tenant, "give_away", "ivan")  # type: ignore[arg-type]  # what Postgres must refuse


async def test_a_connection_cut_in_the_middle_is_an_outage_and_leaves_nothing(sink: PostgresSink, pool: Any) -> None:
    first = post()
    await sink.write([first])
    second, other = again(first, [analyzed("второе")], (AT_MS, 2)), post()
    cut = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE application_name = 'vision-sink' AND wait_event_type = 'Lock'"""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT 1 FROM post_enrichment WHERE post_id = $1 FOR UPDATE", first.event.post_id)
        writing = asyncio.create_task(sink.write([second, other]))
        while not await pool.fetch(cut):
            assert not writing.done()
            await asyncio.sleep(0.01)
        with pytest.raises(SinkUnavailable, match="DATABASE_URL"):
            await writing
    reader = PostsReader(pool)
    assert await reader.get(other.event.post_id) == []
    written: Any = []
    while not written:  # the pool may hand out another connection that was cut
        with contextlib.suppress(SinkUnavailable):
            written = await sink.write([second, other])
    assert written == [second, other]


def charge(tenant: str, grant_id: str = "g", tokens: int = 10, **more: Any) -> Charged:
    known = {"tenant_id": tenant, "ledger": "l", "grant_id": grant_id, "tokens": tokens, "at_ms": AT_MS}
    return Charged.model_validate({**known, **more})


async def charged(pool: Any, tenant: str) -> list[tuple[str, int, bool]]:
    rows = await pool.fetch(
        "SELECT grant_id, tokens, cut_off FROM token_charges WHERE tenant_id = $1 ORDER BY grant_id", tenant
    )
    return [(row["grant_id"], row["tokens"], row["cut_off"]) for row in rows]


async def test_a_charge_is_kept_once_whatever_comes_again_and_in_parts(sink: PostgresSink, pool: Any) -> None:
    tenant = unique("tenant")
    await sink.write([charge(tenant), charge(tenant), charge(tenant, "h", 5, cut_off=True), charge(tenant, "h", 8)])
    await sink.write([charge(tenant), charge(tenant, "h", 5, cut_off=True)])
    assert await charged(pool, tenant) == [("g", 10, False), ("h", 8, True)]


@pytest.mark.parametrize(
    "wrong", [{"grant_id": "x", "at_ms": 2**80}, {"grant_id": "".join(map(chr, range(0x4E00, 0x9000)))}]
)
async def test_a_charge_that_postgres_refuses_is_rejected_and_holds_nothing_up(
    sink: PostgresSink, pool: Any, wrong: dict[str, Any]
) -> None:
    tenant, result = unique("tenant"), post()
    batch: list[PostResult | Charged] = [result, charge(tenant), charge(tenant, **wrong)]
    with pytest.raises(Rejected) as refused:
        await sink.write(batch)
    assert refused.value.index == 2
    assert await sink.write(batch[:2]) == [result]
    assert await charged(pool, tenant) == [("g", 10, False)]


async def test_ids_of_charges_that_cannot_be_stored_as_they_are_become_storable(sink: PostgresSink, pool: Any) -> None:
    tenant = unique("tenant")
    await sink.write([charge(tenant, "a\0"), charge(tenant, "a", 12), charge(tenant, "b", tokens=2**80)])
    assert await charged(pool, tenant) == [("a", 12, False), ("b", 2**63 - 1, False)]
