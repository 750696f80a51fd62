"""The page in a real Chromium, before a worker with real services."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, expect

from tests.browser import PHONE, Visitor, chromium, visitor
from tests.integration.pipeline import Pipeline, Worker, unique
from vision_app.web.ui.render import NAVIGATION

MINE, THEIRS = unique("mine"), unique("theirs")
WORKER = {"VISION_API_TOKENS": f"operator=*,mine={MINE},theirs={THEIRS}"}
VIEWS = [path for path, _ in NAVIGATION]


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as opened:
        yield opened


async def log_in(who: Visitor, token: str = "operator") -> None:  # noqa: S107 - a token of this test
    await who.page.goto("/ui/login")
    await who.page.locator("#token").fill(token)
    await who.page.locator("form.card button").click()
    await expect(who.page.locator("nav a[aria-current]")).to_be_visible()


@pytest.mark.parametrize("language", ["ru", "en"])
async def test_every_view_opens_in_both_languages_without_a_fault(
    browser: Browser, pipe: Pipeline, worker: Worker, language: str
) -> None:
    async with visitor(browser, worker.url, locale=language) as who:
        await who.open("/ui/login")
        await log_in(who)
        for path in VIEWS:
            page = await who.open(path)
            assert await page.locator("html").get_attribute("lang") == language


@pytest.mark.parametrize(("scheme", "viewport"), [("dark", None), ("light", PHONE)])
async def test_every_view_is_readable_in_the_dark_and_on_a_phone(
    browser: Browser, pipe: Pipeline, worker: Worker, scheme: str, viewport: dict[str, int] | None
) -> None:
    options = {"viewport": viewport} if viewport else {}
    async with visitor(browser, worker.url, color_scheme=scheme, **options) as who:
        await log_in(who)
        for path in VIEWS:
            page = await who.open(path)
            wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert await page.evaluate(wider) <= 0, f"{path} scrolls sideways"


async def test_the_api_reference_works_without_a_login(browser: Browser, pipe: Pipeline, worker: Worker) -> None:
    async with visitor(browser, worker.url) as who:
        page = await who.open("/docs")
        await expect(page.locator("#getPost")).to_contain_text("/api/v1/vision/posts/{post_id}")


async def test_a_keyboard_alone_reaches_the_content_and_every_view(
    browser: Browser, pipe: Pipeline, worker: Worker
) -> None:
    async with visitor(browser, worker.url) as who:
        await log_in(who)
        await who.page.keyboard.press("Tab")
        await expect(who.page.locator(".skip")).to_be_focused()
        reached = []
        for _ in range(3 + len(VIEWS)):
            await who.page.keyboard.press("Tab")
            reached.append(await who.page.evaluate("document.activeElement.getAttribute('href')"))
        assert [path for path in reached if path in VIEWS][-len(VIEWS) :] == VIEWS
