"""The page while a service does not answer: every view says what is wrong, none fails, and /readyz says it, too.

The worker reaches the services through proxies that misbehave. A view that cannot be shown answers 503 with the
service's name, and the browser's console names that status; nothing else may be in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.browser import Visitor, chromium, visitor
from tests.integration.pipeline import Worker, picture, pipeline, unique
from vision_app.lab.faults import Fault, Proxies, proxied
from vision_app.operations.neighbours import never_uploaded
from vision_app.settings import load_settings
from vision_app.web.ui.render import NAVIGATION

pytestmark = pytest.mark.asyncio(loop_scope="module")

MINE = unique("mine")
WORKER = {"VISION_API_TOKENS": ""}
CONSOLE = "Failed to load resource: the server responded with a status of 503"
NAMES = {"postgres": "Postgres", "kafka": "Kafka", "s3": "S3", "redis": "Redis"}


class Site:
    """A worker behind proxies, with a post that is finished."""

    def __init__(self, worker: Worker, proxies: Proxies, pipe: Any) -> None:
        self.worker, self.proxies, self.pipe = worker, proxies, pipe
        self.post = unique("done")

    async def ready(self) -> tuple[int, dict[str, Any]]:
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{self.worker.url}/readyz")
        return answer.status_code, answer.json()

    async def says(self, text: str, *, status: int | None = None) -> None:
        """Wait until /readyz names this."""
        async with asyncio.timeout(60):
            while True:
                found, body = await self.ready()
                if text in str({name: body[name] for name in ("reason", "waiting_for")}) and status in (None, found):
                    return
                await asyncio.sleep(0.2)

    async def well(self) -> None:
        async with asyncio.timeout(120):
            while (found := await self.ready())[0] != 200 or found[1]["waiting_for"]:
                await asyncio.sleep(0.2)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(stack: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    settings = load_settings(**{name.lower(): value for name, value in stack.items()})
    async with proxied(stack) as proxies, pipeline(settings) as pipe:
        worker = Worker(stack, tmp_path_factory.mktemp("logs"), 1, **proxies.env, **WORKER)
        worker.start()
        try:
            await worker.ready()
            found, since = Site(worker, proxies, pipe), await pipe.newest()
            await pipe.publish(MINE, found.post, [await pipe.upload(MINE, picture()), never_uploaded(MINE, "gone")])
            await pipe.announced([found.post], since)
            yield found
        finally:
            worker.end()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as opened:
        yield opened


async def look(who: Visitor, path: str) -> tuple[int, str]:
    """Load a view. Its status is 200 or 503, and nothing but that status is in the console."""
    answer = await who.page.goto(path, timeout=60_000)
    assert answer is not None
    assert answer.status in (200, 503), f"{path}: {answer.status}"
    who.errors[:] = [error for error in who.errors if not error.startswith(CONSOLE)]
    await who.check()
    return answer.status, await who.page.locator("main").inner_text()


CASES: list[tuple[str, Fault, set[str]]] = [
    # what is away, how, and the views that cannot be shown without it
    ("postgres", "down", {"/ui/posts", "/ui/tenants", "/ui/cost", "/ui/storage"}),
    ("kafka", "hang", {"/ui/dead-letters"}),
    ("s3", "down", set()),
    ("redis", "down", set()),
]


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("service", "fault", "without"), CASES, ids=[case[0] for case in CASES])
@pytest.mark.parametrize("language", ["en", "ru"])
async def test_every_view_says_what_is_wrong_and_none_fails(
    site: Site, browser: Browser, service: str, fault: Fault, without: set[str], language: str
) -> None:
    since = await site.pipe.newest()
    waiting = unique(f"during-{service}")
    site.proxies.proxies[service].inject(fault)
    try:
        await site.pipe.publish(MINE, waiting, [await site.pipe.upload(MINE, picture())])
        await site.says(service if service != "redis" else "edis")
        async with visitor(browser, site.worker.url, locale=language) as who:
            shown = {path: await look(who, path) for path, _ in NAVIGATION}
            shown["post"] = await look(who, f"/ui/post?tenant_id={MINE}&post_id={site.post}")
            shown["tenant"] = await look(who, f"/ui/tenant?tenant_id={MINE}")
            failed = {path for path, (status, _) in shown.items() if status != 200}
            assert failed <= without, failed
            for path in shown:
                assert NAMES[service].lower() in shown[path][1].lower(), f"{path}: {shown[path][1][:500]}"
    finally:
        site.proxies.heal()
    await site.well()
    await site.pipe.announced([waiting], since)
