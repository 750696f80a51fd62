"""Every view of the page with 10,000 posts of 101 tenants in Postgres: pages, search, no fault in the browser.

Run it with `-s` to see how long each view took; nothing is asserted about times.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from playwright.async_api import Browser, expect

from tests.browser import Visitor, chromium, visitor
from tests.integration.pipeline import Pipeline, Worker, unique
from tests.samples import AT, AT_MS, analysis, analyzed, missing, post
from vision_app.messages import Deferred, Failed, Skipped
from vision_app.stores.rows import COLUMNS, enrichment_row
from vision_app.web.ui.posts import SHOWN
from vision_app.web.ui.render import NAVIGATION

MINE, POSTS, OTHERS = unique("mine"), 10_000, 100
WORD = "дирижабль"
DEFERRED = Deferred(reason="budget", retry_at=AT, details={"deferred": True, "reset_at": AT.isoformat()})
OUTCOMES: list[list[Any]] = [
    [analyzed("Кот на окне")],
    [analyzed("A dog in the park", seen=analysis("A dog in the park", classification="meme")), missing()],
    [Skipped(reason="policy", details={"policy_name": "unsupported_mime"})],
    [Failed(reason="undecodable", details={})],
    [DEFERRED],
]
_NAMES = ", ".join(COLUMNS)
_TYPES = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
INSERT = f"""
INSERT INTO post_enrichment ({_NAMES}, updated_at)
SELECT {_NAMES}, now() - number * interval '1 second' FROM many, jsonb_to_record(line) AS r({_TYPES})"""  # noqa: S608 - our own column names


@pytest.fixture(scope="module")
def rows() -> list[tuple[int, str]]:
    """Numbered rows as JSON. Most are of one tenant; one post in a thousand has a word of its own."""
    found = []
    for number in range(POSTS):
        tenant = MINE if number % 10 else f"{MINE}-{number // 10 % OTHERS:03}"
        rare = number % 1000 == 1
        outcomes = [analyzed(f"{WORD} номер {number}")] if rare else OUTCOMES[number % len(OUTCOMES)]
        result = post(outcomes, tenant=tenant, post_id=f"post-{number:05}", emission=(AT_MS + number, number))
        found.append((number, orjson.dumps(enrichment_row(result), default=str).decode()))
    return found


@pytest.fixture
async def many(pool: Any, rows: list[tuple[int, str]]) -> AsyncIterator[None]:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("CREATE TEMP TABLE many (number int, line jsonb) ON COMMIT DROP")
        await connection.copy_records_to_table("many", records=rows, columns=["number", "line"])
        await connection.execute(INSERT)
    await pool.execute("ANALYZE post_enrichment")
    yield
    await pool.execute("DELETE FROM post_enrichment WHERE tenant_id LIKE $1", f"{MINE}%")


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as opened:
        yield opened


async def opened(who: Visitor, path: str) -> None:
    began = time.monotonic()
    await who.page.goto(path)
    took = time.monotonic() - began
    await who.open(path)
    print(f"{took * 1000:6.0f} ms {path.replace(MINE, 'TENANT')}")


async def test_every_view_with_ten_thousand_posts(pipe: Pipeline, worker: Worker, many: None, browser: Browser) -> None:
    async with visitor(browser, worker.url) as who:
        for path, _ in NAVIGATION:
            await opened(who, path)
        await opened(who, f"/ui/post?tenant_id={MINE}&post_id=post-00002")
        await opened(who, f"/ui/tenant?tenant_id={MINE}")
        await opened(who, "/ui/cost?period=month&by=channel")
        for query in (f"q={WORD}", "status=deferred", "reason=unsupported_mime", "kind=meme", "label=кот"):
            await opened(who, f"/ui/posts?tenant_id={MINE}&{query}")


async def test_pages_lead_on_and_the_search_finds_the_few(
    pipe: Pipeline, worker: Worker, many: None, browser: Browser
) -> None:
    async with visitor(browser, worker.url) as who:
        page = await who.open(f"/ui/posts?tenant_id={MINE}")
        seen: list[str] = []
        for _ in range(4):
            shown = await page.locator("tbody th a.id").all_inner_texts()
            assert len(shown) == SHOWN
            seen += shown
            await page.locator(".pager a[rel=next]").click()
        assert len(set(seen)) == len(seen)
        assert seen == sorted(seen)
        await page.locator(".pager a").first.click()
        assert await page.locator("tbody th a.id").first.inner_text() == seen[0]
        await page.locator("#q").fill(WORD)
        await page.locator("form[role=search] button").click()
        await expect(page.locator("tbody tr")).to_have_count(POSTS // 1000)
        await who.check()
        tenants = await who.open("/ui/tenants")
        names: set[str] = set()
        while True:
            names |= {name for name in await tenants.locator("tbody th a").all_inner_texts() if name.startswith(MINE)}
            if not await tenants.locator(".pager a[rel=next]").count():
                break
            await tenants.locator(".pager a[rel=next]").click()
        assert len(names) == OTHERS + 1
        await who.check()
