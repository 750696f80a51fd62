"""A real Chromium for the tests of the page, and what is checked of every document it shows."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Error, Page, async_playwright

from tests.processes import installed

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
SERIOUS = {"serious", "critical"}
MAX_PAGE_BYTES = 200_000
RENEWALS = 5


@dataclass
class Visitor:
    """A person with a browser. Collects the console's errors, failed requests and the bytes that were sent."""

    page: Page
    errors: list[str] = field(default_factory=list)
    bytes_received: int = 0
    shots: int = 0

    async def open(self, path: str, status: int = 200) -> Page:
        """Load a document and check it: status, size, console, and accessibility."""
        self.bytes_received = 0
        answer = await self.page.goto(path, wait_until="load")
        assert answer is not None
        assert answer.status == status, f"{path}: {answer.status} {(await answer.text())[:300]}"
        assert self.bytes_received < MAX_PAGE_BYTES, f"{path} has {self.bytes_received} bytes"
        await self.check()
        return self.page

    async def check(self) -> None:
        """No error in the console, and no serious fault that axe-core finds in the document shown.

        PAGE_SHOTS=FOLDER keeps a picture of every document that is checked, for eyes.
        """
        if folder := os.environ.get("PAGE_SHOTS"):
            self.shots += 1
            name = re.sub(r"[^a-z0-9]+", "-", self.page.url.partition("/ui")[2].lower())[:60]
            await self.page.screenshot(path=f"{folder}/{id(self):x}-{self.shots:02}{name}.png", full_page=True)
        assert self.errors == []
        found = await self._faults_of_the_document()
        serious = [one for one in found.response["violations"] if one["impact"] in SERIOUS]
        shown = [(one["id"], one["help"], one["nodes"][0]["html"][:200]) for one in serious]
        assert shown == [], f"{self.page.url}: {shown}"

    async def _faults_of_the_document(self) -> Any:
        """What axe-core finds. A document that renews itself meanwhile is looked at again."""
        for _ in range(RENEWALS):
            try:
                return await Axe().run(self.page)
            except Error as fault:
                if "Execution context was destroyed" not in fault.message:
                    raise
                await self.page.wait_for_load_state("load")
        return await Axe().run(self.page)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Debian's Chromium. Skips the test where it is not installed."""
    program = installed("chromium")
    options = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's own sandbox does not run as root
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=[*options, "--disable-dev-shm-usage"])
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def visitor(browser: Browser, url: str, **options: Any) -> AsyncIterator[Visitor]:
    """A new person without cookies. `options` are Playwright's of a context: locale, viewport, color_scheme."""
    context: BrowserContext = await browser.new_context(base_url=url, **{"viewport": DESK, "locale": "en", **options})
    page = await context.new_page()
    one = Visitor(page)

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            one.errors.append(message.text)

    async def counted(request: Any) -> None:
        try:
            sizes = await request.sizes()
        except Error:
            return  # the page was closed meanwhile
        one.bytes_received += sizes["responseBodySize"] + sizes["responseHeadersSize"]

    page.on("console", heard)
    page.on("pageerror", lambda fault: one.errors.append(str(fault)))
    page.on("requestfinished", counted)
    try:
        yield one
    finally:
        await context.close()
