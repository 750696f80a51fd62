"""Counting and cleaning up on real S3 and Postgres, with limits scaled down so that 15 GiB are 150 objects."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import structlog

from tests.integration.storage import (
    SCALED,
    SIZE,
    accounted,
    listed,
    objects_by_tenant,
    place_of_its_own,
    put_old,
)
from tests.samples import analyzed, medium, post
from vision_app.domain.calls import CallRecord
from vision_app.domain.storage import Aim
from vision_app.messages import Deferred
from vision_app.operations.connections import postgres_of, s3_of
from vision_app.retention import accounts
from vision_app.retention.accounts import Accounts
from vision_app.retention.cleanup import clean_up, count
from vision_app.retention.keeper import StorageKeeper
from vision_app.retention.lock import StorageBusy, exclusively
from vision_app.retention.upload import upload
from vision_app.settings import Settings
from vision_app.stores.answers import AnswerStore
from vision_app.stores.keys import answer_key, media_key
from vision_app.stores.postgres import PostgresSink
from vision_app.stores.s3 import S3Store, StoreUnavailable
from vision_app.telemetry import metrics

FILL = {"small": 10, "middle": 35, "large": 45, "huge": 55}
"""Objects per tenant: 145 of 150, as 14.5 of 15 GiB."""
AT_MIDNIGHT = datetime(2027, 1, 1, tzinfo=UTC)
LEVEL = {"small": 10, "middle": 35, "large": 37, "huge": 38}
"""What is left of them at 120, the target: the largest two give down to one level."""


@pytest.fixture
async def place(stack_settings: Settings) -> Settings:
    return await place_of_its_own(stack_settings)


@pytest.fixture
async def s3(place: Settings) -> AsyncIterator[S3Store]:
    async with s3_of(place) as store:
        yield store


@pytest.fixture
async def pool(place: Settings) -> AsyncIterator[Any]:
    async with postgres_of(place) as opened:
        yield opened


async def fill(s3: S3Store, days: float = 20) -> None:
    """Old media that no post lists any more, the later numbers the younger."""
    await put_old(
        s3,
        [
            (f"media/{tenant}/00/{number:03}.jpg", days - number / 100)
            for tenant, objects in FILL.items()
            for number in range(objects)
        ],
    )


def evenly(place: Settings) -> Settings:
    """Only the bucket's limit matters: types may hold everything."""
    return place.model_copy(update={"s3_media_max_gb": place.s3_total_limit_gb})


async def test_14_5_of_15_comes_down_to_the_target_evenly(place: Settings, s3: S3Store, pool: Any) -> None:
    await fill(s3)
    dry = await clean_up(evenly(place), s3, dry_run=True)
    assert (dry.listed, dry.deleted_count, dry.freed_bytes) == (145, 25, 25 * SIZE)
    assert await objects_by_tenant(s3) == FILL
    report = await clean_up(evenly(place), s3)
    assert (report.deleted, report.freed) == (dry.deleted, dry.freed)
    assert (report.emergency, report.shortfall_bytes) == (True, 0)
    left = await objects_by_tenant(s3)
    assert left.total() == 120
    assert left == LEVEL
    assert await accounted(pool) == await listed(s3)
    youngest = [head.key async for head in s3.list("media/huge/")]
    assert youngest[0] == f"media/huge/00/{55 - LEVEL['huge']:03}.jpg", "the oldest went first"
    again = await clean_up(evenly(place), s3)
    assert again.deleted_count == 0


KILLED = """
import asyncio, os, sys
from vision_app.settings import load_settings
from vision_app.retention import cleanup
from vision_app.stores.s3 import S3Store, StoreUnavailable
from vision_app.telemetry import metrics

cleanup.DELETE_BATCH = 5
batches = 0
original = S3Store.delete_unreported

async def delete(self, keys):
    global batches
    batches += 1
    if batches == 3:
        if sys.argv[1] == "after":
            await original(self, keys)
        print("in the middle", flush=True)
        await asyncio.sleep(600)
    return await original(self, keys)

S3Store.delete_unreported = delete

async def main():
    settings = load_settings()
    s3 = S3Store(settings)
    await s3.open()
    await cleanup.clean_up(settings, s3)

asyncio.run(main())
"""


def environment(place: Settings) -> Mapping[str, str]:
    named = {"s3_bucket": place.s3_bucket, "database_url": place.database_url.get_secret_value()}
    limits = {name: str(getattr(place, name)) for name in SCALED}
    return {**os.environ, **{name.upper(): value for name, value in {**named, **limits}.items()}}


@pytest.mark.parametrize("moment", ["before", "after"], ids=["between batches", "deleted but not booked"])
async def test_killed_in_the_middle_and_started_again_it_ends_the_same(
    stack: Mapping[str, str], place: Settings, s3: S3Store, pool: Any, moment: str
) -> None:
    await fill(s3)
    variables = {
        **environment(evenly(place)),
        **{n: v for n, v in stack.items() if n not in ("S3_BUCKET", "DATABASE_URL")},
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, moment, env=variables, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout
    assert b"in the middle" in await asyncio.wait_for(process.stdout.readline(), 60)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert (await objects_by_tenant(s3)).total() in (130, 135), "some have gone, the target is not reached"
    report = await clean_up(evenly(place), s3)
    assert report.deleted_count in (10, 15)
    assert await objects_by_tenant(s3) == LEVEL
    assert await accounted(pool) == await listed(s3)
    assert await pool.fetchval("SELECT count(*) FROM expired_objects WHERE expired_at IS NULL") == 0
    assert await pool.fetchval("SELECT count(*) FROM expired_objects") == 25


async def test_one_at_a_time(place: Settings, s3: S3Store) -> None:
    async with exclusively(place):
        with pytest.raises(StorageBusy, match="under way"):
            await clean_up(place, s3, wait_seconds=0.0)
    await clean_up(place, s3)


async def test_what_unfinished_posts_need_stays(place: Settings, s3: S3Store, pool: Any) -> None:
    """In work, or waiting for budget: neither their pictures nor answers about them go, however old and full."""
    busy, parked, done = medium(), medium(), medium()
    retry = Deferred(reason="budget", retry_at=AT_MIDNIGHT)
    for item, outcome in ((busy, None), (parked, retry), (done, analyzed())):
        item = item.model_copy(update={"s3_key": media_key("t", item.sha256, "image/png")})
        sink = PostgresSink(place)
        await sink.open()
        await sink.write([post([outcome], tenant="t", media=[item])])
        await sink.close()
        answer = answer_key("t", item.sha256, "gigachat", "GigaChat-Pro", "p1")
        await put_old(s3, [(item.s3_key, 100), (answer, 100)])
    await pool.execute("UPDATE media_objects SET last_seen_at = now() - interval '99 days'")
    report = await clean_up(place, s3)
    assert report.deleted == {("media", "ttl"): 1, ("vision", "ttl"): 1}
    assert [head.key async for head in s3.list("") if done.sha256 in head.key] == []
    rest = [head.key async for head in s3.list("")]
    assert len([key for key in rest if busy.sha256 in key]) == 2
    assert len([key for key in rest if parked.sha256 in key]) == 2
    assert dict(report.protected) == {"needed": 4 * SIZE}


async def test_an_object_needed_after_the_decision_is_not_deleted(place: Settings, s3: S3Store, pool: Any) -> None:
    item = medium(s3_key=f"media/t/00/{uuid4().hex}.png")
    await put_old(s3, [(item.s3_key, 100), ("media/t/00/other.png", 100)])
    await clean_up(place, s3, dry_run=True)
    sink = PostgresSink(place)
    await sink.open()
    done: list[bool] = []
    real = sink.write
    original = asyncpg.Connection.fetch

    async def fetch(self: Any, query: str, *arguments: Any, **more: Any) -> Any:
        rows = await original(self, query, *arguments, **more)
        if "ORDER BY condemned_at" in query and rows and not done:
            done.append(True)
            await real([post([None], tenant="t", media=[item])])
        return rows

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(asyncpg.Connection, "fetch", fetch)  # patched: the driver's, to act at a known moment
        report = await clean_up(place, s3)
    await sink.close()
    assert (report.unmarked, report.deleted_count) == (1, 1)
    assert [head.key async for head in s3.list("")] == [item.s3_key]
    assert await accounted(pool) == await listed(s3)


async def test_any_layout_is_counted_under_its_tenant_and_type(place: Settings, s3: S3Store, pool: Any) -> None:
    keys = [
        "media/default/4e/4e5b..png",
        "media/877193ef-be80-4977-aaeb-8009c3d772ee/4e/x..png",
        "vision/default/4e/x_gigachat_v1.json",
        "album/default/17_vision_summary_v1.json",
        "crawl/default/17/abc.html",
        "no/such/layout.bin",
    ]
    await put_old(s3, [(key, 1) for key in keys], size=100)
    await count(place, s3)
    assert await accounted(pool) == {
        ("default", "media"): [100, 1],
        ("877193ef-be80-4977-aaeb-8009c3d772ee", "media"): [100, 1],
        ("default", "vision"): [100, 1],
        ("default", "album"): [100, 1],
        ("default", "crawl"): [100, 1],
        ("", "other"): [100, 1],
    }


async def test_our_own_writes_are_counted_and_a_listing_finds_no_drift(place: Settings, s3: S3Store, pool: Any) -> None:
    changes = Accounts()
    s3.add_observer(changes.note_change)
    answers = AnswerStore(s3, "GigaChat-Pro")
    for grant in ("g1", "g2", "g3"):
        await answers.start_call("t", grant, "w")
    await answers.finish_call("t", "g1", 7, "ok")
    await answers.clear_call("t", "g2")
    assert await changes.flush(pool) == {("t", "vision"): 2}
    assert await accounted(pool) == await listed(s3)
    assert isinstance(await answers.call("t", "g1"), CallRecord)
    await count(place, s3)
    assert await pool.fetchval("SELECT drift_bytes FROM storage_state") == 0
    assert await changes.flush(pool) == {}


async def test_drift_is_repaired(place: Settings, s3: S3Store, pool: Any) -> None:
    await put_old(s3, [(f"media/t/00/{number}", 1) for number in range(3)])
    await pool.execute(
        "INSERT INTO tenant_storage_usage VALUES ('gone', 'media', 5, DEFAULT, 1), ('t', 'media', 1, DEFAULT, 9)"
    )
    await count(place, s3)
    assert await accounted(pool) == {("t", "media"): [3 * SIZE, 3]}
    assert await pool.fetchval("SELECT drift_bytes FROM storage_state") == 5 + 3 * SIZE - 1


async def test_what_is_written_while_a_listing_runs_is_counted_once(place: Settings, s3: S3Store, pool: Any) -> None:
    """Before the listing, noted late; during it, seen or not seen: each exactly once."""
    changes = Accounts()
    s3.add_observer(changes.note_change)
    await s3.put("vision/t/before_.json", bytes(100))
    await asyncio.sleep(1.1)  # ages are told in whole seconds
    seen = iter(["vision/t/a-during_.json", "vision/t/z-during_.json"])
    real = s3.list

    async def listing(prefix: str) -> AsyncIterator[Any]:
        await s3.put(next(seen), bytes(100))
        async for head in real(prefix):
            yield head
        await s3.put(next(seen), bytes(100))
        await changes.flush(pool)

    s3.list = listing  # type: ignore[method-assign]  # of this one store
    await count(place, s3)
    s3.list = real  # type: ignore[method-assign]  # of this one store
    await s3.put("vision/t/later_.json", bytes(100))
    await changes.flush(pool)
    assert await accounted(pool) == await listed(s3) == {("t", "vision"): [400, 4]}


async def test_media_objects_say_what_is_there(place: Settings, s3: S3Store, pool: Any) -> None:
    item = medium(s3_key="media/t/00/real.png", size_bytes=17)
    sink = PostgresSink(place)
    await sink.open()
    await sink.write([post([analyzed()], tenant="t", media=[item])])
    await sink.close()
    await put_old(s3, [(item.s3_key, 1)])
    await pool.execute("UPDATE media_objects SET refs_count = 9")
    await clean_up(place, s3)
    row = await pool.fetchrow("SELECT size_bytes, refs_count FROM media_objects")
    assert tuple(row) == (SIZE, 1)
    await pool.execute("UPDATE post_enrichment SET updated_at = now() - interval '2 hours'")
    await s3.delete([item.s3_key])
    await clean_up(place, s3)
    assert await pool.fetchval("SELECT reason FROM expired_objects WHERE s3_key = $1", item.s3_key) == "gone"
    await put_old(s3, [(item.s3_key, 0)])
    await count(place, s3)
    assert await pool.fetchval("SELECT count(*) FROM expired_objects WHERE s3_key = $1", item.s3_key) == 0


async def test_an_operators_clean_up_of_one_type(place: Settings, s3: S3Store) -> None:
    await fill(s3)
    await put_old(s3, [(f"crawl/small/1/{number}.html", 5) for number in range(4)])
    report = await clean_up(evenly(place), s3, Aim("manual", "crawl"))
    assert report.deleted == {("crawl", "emergency"): 4}
    assert report.shortfall_bytes == 25 * SIZE


async def test_usage_of_an_account(place: Settings, s3: S3Store, pool: Any) -> None:
    await put_old(s3, [("media/t/1", 1), ("vision/t/2_", 1), ("media/other/1", 1)])
    await count(place, s3)
    assert (await accounts.usage(pool, "t")).size_bytes == {"media": SIZE, "vision": SIZE}
    assert (await accounts.usage(pool)).total_bytes == 3 * SIZE
    assert accounts.sum_usages(await accounts.usage_by_account(pool)).total_objects == 3


async def test_a_paid_answer_is_stored_beyond_the_quota_and_reported(place: Settings, s3: S3Store, pool: Any) -> None:
    """No room for the tenant: the answer is there, the violation is counted and logged, a clean-up is asked for."""
    tenant = f"t-{uuid4().hex[:8]}"
    await put_old(s3, [(f"media/{tenant}/00/{number}", 1) for number in range(21)])
    await clean_up(place, s3)
    await pool.execute("UPDATE storage_state SET cleaned_at = now() - interval '1 hour'")
    keeper = StorageKeeper(place, s3)
    violations = metrics.QUOTA_VIOLATIONS.labels(tenant_id=metrics.tenant_label(tenant), reason="tenant_limit")
    before = violations._value.get()
    await AnswerStore(s3, "GigaChat-Pro").finish_call(tenant, "g1", 7, "ok")
    with structlog.testing.capture_logs() as said:
        await keeper.show()
    assert violations._value.get() == before + 1
    assert [(line["event"], line["reason"]) for line in said] == [("Quota exceeded", "tenant_limit")]
    assert await accounted(pool) == await listed(s3)
    assert await pool.fetchval("SELECT requested_at IS NOT NULL FROM storage_state")
    await keeper.look()
    assert await pool.fetchval(
        "SELECT requested_at IS NULL AND cleaned_at > now() - interval '1 minute' FROM storage_state"
    )
    await keeper.on_stop()


ASK = "UPDATE storage_state SET requested_at = clock_timestamp()"
TRYING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'SELECT pg_try_adv%'"
ASKED = "SELECT requested_at IS NOT NULL FROM storage_state"


async def test_a_run_that_failed_fulfils_no_request(place: Settings, s3: S3Store, pool: Any) -> None:
    await clean_up(place, s3)
    away = place.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:9"})
    await pool.execute(ASK)
    nowhere = S3Store(away)
    await nowhere.open()
    keeper = StorageKeeper(away, nowhere)
    with pytest.raises(StoreUnavailable):
        await keeper.look()
    await keeper.on_stop()
    await nowhere.close()
    assert await pool.fetchval(ASKED)


async def test_a_request_in_the_middle_of_a_run_is_for_the_next(place: Settings, s3: S3Store, pool: Any) -> None:
    """The listing may have passed the objects that it was made for."""
    await clean_up(place, s3)
    keeper = StorageKeeper(place, s3)
    await pool.execute(ASK)
    async with exclusively(place):
        looking = asyncio.create_task(keeper.look())
        while await pool.fetchval(TRYING) < 2:  # the holder's last query is the same
            await asyncio.sleep(0.01)
        await pool.execute(ASK)
    await looking
    assert await pool.fetchval(ASKED)
    await keeper.look()
    assert not await pool.fetchval(ASKED)
    await keeper.on_stop()


async def test_changes_too_many_to_keep_ask_for_a_count(place: Settings, s3: S3Store, pool: Any) -> None:
    await clean_up(place, s3)
    changes = Accounts()
    for number in range(accounts.MAX_CHANGES + 1):
        changes.note_change(f"media/many/00/{number}", None, SIZE, 0.0)
    await changes.flush(pool)
    assert await pool.fetchval(ASKED)


async def test_the_last_free_quota_is_given_to_one_of_two_simultaneous_uploads(
    place: Settings, s3: S3Store, pool: Any
) -> None:
    await put_old(s3, [(f"media/t/00/{number}", 1) for number in range(19)])
    await count(place, s3)
    files = [uuid4().bytes * (SIZE // 16) for _ in range(2)]
    done = await asyncio.gather(
        *(upload(place, pool, s3, "t", content, "image/png") for content in files), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in done) == ["QuotaExceeded", "Upload"]
    assert await accounted(pool) == await listed(s3) == {("t", "media"): [20 * SIZE, 20]}


class Refusing(S3Store):
    async def put(self, *_: Any, **__: Any) -> None:
        raise StoreUnavailable("away")


async def test_a_failed_upload_releases_its_quota(place: Settings, pool: Any) -> None:
    store = Refusing(place)
    await store.open()
    with pytest.raises(StoreUnavailable):
        await upload(place, pool, store, "t", b"picture", "image/png")
    await store.close()
    assert (await accounts.usage(pool)).total_bytes == 0


async def test_an_old_picture_uploaded_again_is_as_good_as_new(place: Settings, s3: S3Store, pool: Any) -> None:
    """Else it would expire before the post that it was uploaded for comes."""
    content = uuid4().bytes
    first = await upload(place, pool, s3, "t", content, "image/png")
    await put_old(s3, [(first.medium.s3_key, 29.9)], size=16)
    await pool.execute(
        "INSERT INTO expired_objects (s3_key, tenant_id, kind, size_bytes, reason) VALUES ($1, 't', 'media', 1, 'ttl')",
        first.medium.s3_key,
    )
    again = await upload(place, pool, s3, "t", content, "image/png")
    assert (first.deduplicated, again.deduplicated) == (False, True)
    head = await s3.head(first.medium.s3_key)
    assert head.last_modified is not None
    assert (datetime.now(UTC) - head.last_modified).days == 0
    assert await pool.fetchval("SELECT count(*) FROM expired_objects") == 0


async def test_while_postgres_is_away_changes_are_kept(place: Settings, s3: S3Store, pool: Any) -> None:
    changes = Accounts()
    s3.add_observer(changes.note_change)
    await s3.put("vision/t/a_.json", bytes(10))
    away = await asyncpg.create_pool(place.database_url.get_secret_value(), min_size=1)
    await away.close()
    with pytest.raises(asyncpg.InterfaceError):
        await changes.flush(away)
    await s3.put("vision/t/a_.json", bytes(30))
    assert await changes.flush(pool) == {("t", "vision"): 1}
    assert await accounted(pool) == await listed(s3)


def test_accounts_stay_small_while_postgres_is_away() -> None:
    changes = Accounts()
    for number in range(3 * accounts.MAX_CHANGES):
        changes.note_change(f"vision/t{number}/posts/a.json", None, 1, 1.0)
    assert len(changes._changes) <= accounts.MAX_CHANGES
    assert changes._dropped, "a listing is due"
