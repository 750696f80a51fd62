"""The operators' questions, answered by clicks on the page alone: why a post has no result, who is out of money and
until when, what is among the dead letters, whether storage is about to fill, what yesterday cost and what was saved.

PAGE_PICTURES=docs/media keeps the pictures of docs/page.md that show the answers.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.async_api import Browser, Page, expect

from tests.browser import Visitor, chromium, visitor
from tests.integration.pipeline import Pipeline, Worker, picture, unique
from vision_app.operations.neighbours import never_uploaded

MINE, POOR, PAUSED = unique("acme"), unique("poor"), unique("quiet")
WORKER = {"VISION_OCR_FALLBACK_ENABLED": "false", "VISION_PRICES": "GigaChat-Pro=1.5,GigaChat-Pro:2.0.30.01=1.5"}
DOWN = {"endpoint": "chat", "fault": {"kind": "status", "status": 503}}
COLORS = 64


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as opened:
        yield opened


@pytest.fixture
async def who(browser: Browser, worker: Worker) -> AsyncIterator[Visitor]:
    async with visitor(browser, worker.url, viewport={"width": 1100, "height": 900}) as one:
        yield one


async def keep(page: Page, name: str) -> None:
    """A picture for the documentation, if it is asked for."""
    if (folder := os.environ.get("PAGE_PICTURES")) is None:
        return
    target = Path(folder) / f"page-{name}.png"
    await page.screenshot(path=target, clip={"x": 0, "y": 0, "width": 1100, "height": 780}, full_page=True)
    Image.open(target).quantize(COLORS).save(target, optimize=True)


async def by_clicks(who: Visitor, tenant: str, post: str) -> Page:
    """From the list of posts to one of them, by its id."""
    page = await who.open("/ui/posts")
    await page.locator("#by_tenant").fill(tenant)
    await page.locator("#post_id").fill(post)
    await page.locator("form[action='/ui/post'] button").click()
    return page


async def says(who: Visitor, tenant: str, post: str, text: str) -> Page:
    """The post's document, as soon as it says this: a worker takes a moment to open or finish it."""
    async with asyncio.timeout(60):
        page = await by_clicks(who, tenant, post)
        while text not in await page.locator("main").inner_text():
            await asyncio.sleep(0.3)
            await page.reload()
    who.errors.clear()  # the console names each answer 404, before the post is known
    await who.check()
    return page


async def change(page: Page, tenant: str, action: str, **fields: str) -> None:
    await page.goto(f"/ui/tenant?tenant_id={tenant}")
    await page.locator(f"a.button[href*='action={action}']").click()
    for name, value in {**fields, "who": "anna", "reason": "a question"}.items():
        await page.locator(f"#{name}").fill(value)
    await page.locator("form.card button").click()
    await expect(page.locator(".notice.good")).to_be_visible()


async def publish(pipe: Pipeline, tenant: str, *media: Any) -> str:
    post = unique("post")
    await pipe.publish(tenant, post, list(media))
    return post


# --- why has my post no result? ---------------------------------------------------------------------------------------


async def test_the_object_is_missing(pipe: Pipeline, who: Visitor) -> None:
    post = await publish(pipe, MINE, never_uploaded(MINE, unique("gone")))
    page = await says(who, MINE, post, "The picture is not in the bucket, or may not be read.")
    await expect(page.locator("main")).to_contain_text("vision upload")
    await keep(page, "why-missing")


async def test_the_policy_skips_it(pipe: Pipeline, who: Visitor) -> None:
    post = await publish(pipe, MINE, never_uploaded(MINE, unique("zip"), "application/zip"))
    page = await says(who, MINE, post, "A rule of the policy skips it.")
    await expect(page.locator("main")).to_contain_text("unsupported_mime")
    await keep(page, "why-policy")


async def test_it_is_deferred_and_its_tenant_is_among_those_out_of_money(pipe: Pipeline, who: Visitor) -> None:
    await publish(pipe, POOR, await pipe.upload(POOR, picture()))
    await pipe.idle()
    await change(who.page, POOR, "set_limit", limit="1")
    post = await publish(pipe, POOR, await pipe.upload(POOR, picture()))
    page = await says(who, POOR, post, "Deferred: its tenant's money of the day is spent.")
    await expect(page.locator("dl.facts", has_text="It goes on at")).to_contain_text("00:00:00 UTC")
    await keep(page, "why-deferred")
    await page.locator("a.button:text-is('Money of this tenant')").click()
    await expect(page.locator(".notice.bad")).to_contain_text("00:00:00 UTC")
    await page.locator("nav a:text-is('Tenants')").click()
    await page.locator("#state").select_option("exhausted")
    await page.locator("form.filters button").click()
    await expect(page.locator("tbody tr", has_text=POOR)).to_contain_text("00:00:00 UTC")
    await who.check()
    await keep(page, "out-of-money")


async def test_its_tenant_is_paused(pipe: Pipeline, who: Visitor) -> None:
    await change(who.page, PAUSED, "pause")
    post = await publish(pipe, PAUSED, await pipe.upload(PAUSED, picture()))
    page = await says(who, PAUSED, post, "Its tenant is paused.")
    await keep(page, "why-paused")
    await page.locator("a.button:text-is('Money of this tenant')").click()
    await expect(page.locator("a.button:text-is('Resume')")).to_be_visible()
    await change(page, PAUSED, "resume")
    await says(who, PAUSED, post, "analyzed")


async def test_it_is_among_the_dead_letters_and_is_put_back(pipe: Pipeline, who: Visitor) -> None:
    post = unique("post")
    broken = f'{{"tenant_id": "{MINE}", "post_id": "{post}", '
    await pipe.redis.xadd(pipe.settings.input_streams[0], {"event": "posts.vision.uploaded", "data": broken})
    page = await says(who, MINE, post, "It is among the dead letters:")
    await keep(page, "why-dead-letter")
    await page.locator("main a[href*='/ui/dead-letter?']").click()
    await expect(page.locator("pre")).to_contain_text(post)
    await page.locator("button:text-is('Replay')").click()
    await expect(page.locator("main")).to_contain_text("At most 0 tokens")
    await page.locator("nav a:text-is('Dead letters')").click()
    await expect(page.locator("button:text-is('Replay all')").first).to_be_visible()
    await who.check()
    await keep(page, "dead-letters")


async def test_the_provider_is_away(pipe: Pipeline, who: Visitor) -> None:
    await pipe.faults(DOWN)
    posts = [await publish(pipe, MINE, await pipe.upload(MINE, picture())) for _ in range(6)]
    page = await says(who, MINE, posts[-1], "GigaChat does not answer.")
    await keep(page, "why-provider")
    await pipe.faults()
    await says(who, MINE, posts[-1], "analyzed")


# --- the other questions ----------------------------------------------------------------------------------------------


async def test_whether_storage_is_about_to_fill(pipe: Pipeline, who: Visitor) -> None:
    page = await who.open("/ui/storage")
    await expect(page.locator(".notice").first).to_contain_text("% of the limit is used")
    await page.locator("a:text-is('What would a clean-up delete?')").click()
    await expect(page.locator("h1")).to_contain_text("Clean-up")
    await who.check()
    await page.go_back()
    await keep(page, "storage")


async def test_what_yesterday_cost_and_what_was_saved(pipe: Pipeline, who: Visitor, pool: Any) -> None:
    medium = await pipe.upload(MINE, picture())
    for _ in range(3):  # one call, and two answers from the cache
        await publish(pipe, MINE, medium)
        await pipe.idle()
    await pool.execute("UPDATE token_charges SET charged_at = charged_at - interval '1 day' WHERE tenant_id = $1", MINE)
    await pool.execute(
        "UPDATE post_enrichment SET updated_at = updated_at - interval '1 day' WHERE tenant_id = $1", MINE
    )
    page = await who.open("/ui/cost")
    await page.locator("#period").select_option("yesterday")
    await page.locator("form.filters button").click()
    row = page.locator("tbody tr", has_text=MINE)
    await expect(row).to_contain_text("cache")
    assert int((await row.locator("td.number").nth(1).inner_text()).replace("\u202f", "")) > 0
    await expect(page.locator(".grid")).to_contain_text("roubles")
    await who.check()
    await keep(page, "cost-yesterday")


# --- the last test of this module: the worker ends --------------------------------------------------------------------


async def test_the_feature_is_switched_off(
    pipe: Pipeline, browser: Browser, worker: Worker, stack: Mapping[str, str], tmp_path: Path
) -> None:
    await asyncio.to_thread(worker.stop)
    off = Worker(stack, tmp_path, 1, FEATURE_VISION_ENABLED="false")
    off.start()
    try:
        await off.ready()
        post = await publish(pipe, MINE, await pipe.upload(MINE, picture()))
        async with visitor(browser, off.url, viewport={"width": 1100, "height": 900}) as who:
            page = await says(who, MINE, post, "Image analysis is switched off (FEATURE_VISION_ENABLED=false)")
            await keep(page, "why-switched-off")
    finally:
        off.end()
