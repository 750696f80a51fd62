"""The page in a real Chromium, before a worker with real services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser import PHONE, Visitor, chromium, visitor
from tests.integration.pipeline import Pipeline, Worker, picture, unique
from vision_app.operations.connections import postgres_of
from vision_app.operations.neighbours import never_uploaded
from vision_app.settings import Settings
from vision_app.web.ui.render import NAVIGATION

MINE, THEIRS = unique("mine"), unique("theirs")
WORKER = {"VISION_API_TOKENS": f"operator=*,mine={MINE},theirs={THEIRS}"}
VIEWS = [path for path, _ in NAVIGATION]
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


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
            assert await page.evaluate(WIDER) <= 0, f"{path} scrolls sideways"


async def test_figures_and_names_of_absurd_size_stay_inside_a_phone(
    browser: Browser, pipe: Pipeline, worker: Worker, stack_settings: Settings
) -> None:
    tenant = "t" * 200 + unique("tenant")
    async with postgres_of(stack_settings) as pool, visitor(browser, worker.url, viewport=PHONE) as who:
        await pool.execute(
            """INSERT INTO token_charges (tenant_id, ledger, grant_id, charged_at, tokens, cut_off)
               VALUES ($1, 'l', 'g', now(), $2, true)""",
            tenant,
            2**63 - 1,
        )
        try:
            await log_in(who)
            for path in ("/ui/cost", f"/ui/cost?tenant_id={tenant}", f"/ui/tenant?tenant_id={tenant}"):
                assert await (await who.open(path)).evaluate(WIDER) <= 0, f"{path} scrolls sideways"
        finally:
            await pool.execute("DELETE FROM token_charges WHERE tenant_id = $1", tenant)


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


# --- what a person does -----------------------------------------------------------------------------------------------


@pytest.fixture
async def posts(pipe: Pipeline) -> dict[str, str]:
    """Of one tenant: a post with a picture, one whose picture is missing, one that cannot be read."""
    names = {name: unique(name) for name in ("seen", "gone")}
    since = await pipe.newest()
    await pipe.publish(MINE, names["seen"], [await pipe.upload(MINE, "meme_cat.jpg")])
    await pipe.publish(MINE, names["gone"], [never_uploaded(MINE, names["gone"])])
    await pipe.announced(list(names.values()), since)
    broken = f'{{"tenant_id": "{MINE}", "post_id": "{names["seen"]}-broken", '
    await pipe.redis.xadd(pipe.settings.input_streams[0], {"event": "posts.vision.uploaded", "data": broken})
    await pipe.idle()
    return names


async def test_a_post_is_found_and_shown_with_its_picture_and_its_way(
    browser: Browser, pipe: Pipeline, worker: Worker, posts: dict[str, str]
) -> None:
    async with visitor(browser, worker.url) as who:
        await log_in(who)
        page = await who.open("/ui/posts")
        await page.locator("#tenant_id").fill(MINE)
        await page.locator("#q").fill("мем")
        await page.locator("form[role=search] button").click()
        await page.locator(f"a:text-is('{posts['seen']}')").click()
        await expect(page.locator("main")).to_contain_text("Timeline")
        await expect(page.locator("main .badge").first).to_have_text("analyzed")
        picture = page.locator("img.thumb")
        await expect(picture).to_be_visible()
        assert await picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
        assert await page.locator(".timeline tbody tr").count() >= 8
        await who.check()


async def test_why_a_post_has_no_result_is_said(
    browser: Browser, pipe: Pipeline, worker: Worker, posts: dict[str, str]
) -> None:
    async with visitor(browser, worker.url, locale="ru") as who:
        await log_in(who, "mine")
        await who.open(f"/ui/post?post_id={posts['gone']}")
        await expect(who.page.locator("main")).to_contain_text("Картинки нет в бакете")
        await expect(who.page.locator("main")).to_contain_text("vision upload")


async def test_a_tenant_is_paused_with_a_reason_and_goes_on(
    browser: Browser, pipe: Pipeline, worker: Worker, posts: dict[str, str]
) -> None:
    async with visitor(browser, worker.url) as who:
        await log_in(who)
        page = await who.open(f"/ui/tenant?tenant_id={MINE}")
        for action, state in (("Pause", "paused"), ("Resume", "money left")):
            await page.locator(f"a.button:text-is('{action}')").click()
            await who.check()
            await page.locator("#who").fill("anna")
            await page.locator("#reason").fill(f"because of {action}")
            await page.locator("form.card button").click()
            await expect(page.locator(".notice.good")).to_be_visible()
            await reload_until(page, "h1 .badge", state)
            await expect(page.locator("main table").last).to_contain_text(f"because of {action}")
            await who.check()


async def test_a_dead_letter_is_read_and_put_away(
    browser: Browser, pipe: Pipeline, worker: Worker, posts: dict[str, str]
) -> None:
    async with visitor(browser, worker.url) as who:
        await log_in(who)
        page = await who.open(f"/ui/dead-letters?tenant_id={MINE}")
        before = await page.locator("tbody input[name=id]").count()
        await page.locator("th a.id").first.click()
        await expect(page.locator("pre")).to_contain_text("-broken")
        await who.check()
        await page.locator("button:text-is('Replay')").click()
        await expect(page.locator("main")).to_contain_text("At most 0 tokens")
        await who.check()
        await page.goto(f"/ui/dead-letters?tenant_id={MINE}")
        await page.locator("tbody input[name=id]").first.check()
        await page.locator("button:text-is('Discard marked')").click()
        await who.check()
        await page.locator("#who").fill("anna")
        await page.locator("#reason").fill("a test")
        await page.locator("button:text-is('Confirm')").click()
        await expect(page.locator(".notice.good")).to_contain_text("1 letters are marked as done")
        await page.goto(f"/ui/dead-letters?tenant_id={MINE}")
        assert await page.locator("tbody input[name=id]").count() == before - 1


async def test_a_post_is_replayed_after_a_preview_and_a_finished_call_is_not_paid_again(
    browser: Browser, pipe: Pipeline, worker: Worker
) -> None:
    post, medium = unique("again"), await pipe.upload(MINE, picture())
    late = await pipe.upload(MINE, content := picture())
    await pipe.s3.delete([late.s3_key])
    since = await pipe.newest()
    await pipe.publish(MINE, post, [medium, late])
    await pipe.announced([post], since)
    billed = len(await pipe.billed(post))
    assert billed == 1
    await pipe.s3.put(late.s3_key, content, "image/png")
    async with visitor(browser, worker.url) as who:
        await log_in(who)
        page = await who.open(f"/ui/post?tenant_id={MINE}&post_id={post}")
        await page.locator("a.button:text-is('Send the post again…')").click()
        await expect(page.locator("main")).to_contain_text(
            "for 1 pictures. Free: 1 with an answer, 0 without an object"
        )
        await who.check()
        await page.locator("input[type=checkbox]").check()
        await page.locator("button:text-is('Preview again')").click()
        await expect(page.locator("button.danger")).to_contain_text("Send by force")
        await who.check()
        await page.go_back()
        since = await pipe.newest()
        await page.locator("#who").fill("anna")
        await page.locator("#reason").fill("the picture is there now")
        await page.locator("form[method=post].card button").click()
        await expect(page.locator(".notice.good")).to_contain_text("the post was sent again")
        await expect(page.locator("main")).to_contain_text("the picture is there now")
        await who.check()
        await pipe.announced([post], since)
        assert len(await pipe.billed(post)) == billed + 1, "only the picture that had no answer is asked about"


async def test_a_post_in_work_says_where_it_is_and_shows_its_result_by_itself(
    browser: Browser, pipe: Pipeline, worker: Worker
) -> None:
    post, medium = unique("moving"), await pipe.upload(MINE, picture())
    await pipe.faults({"endpoint": "chat", "session": f"t-{post}", "fault": {"kind": "latency", "seconds": 5}})
    async with visitor(browser, worker.url) as who:
        await log_in(who)
        await change_tenant(who.page, "pause", "paused")
        await pipe.publish(MINE, post, [medium])
        await until_known(who, f"/ui/post?tenant_id={MINE}&post_id={post}")
        now = who.page.locator("[data-live]")
        await expect(now).to_contain_text("it waits for its tenant's money or a slot", timeout=30_000)
        await who.check()
        other = await who.page.context.new_page()
        await change_tenant(other, "resume", "money left")
        await expect(now).to_contain_text("GigaChat is being asked", timeout=30_000)
        await expect(who.page.locator("h1 .badge")).to_have_text("analyzed", timeout=30_000)
        await expect(now).to_have_count(0)
        await who.check()


ACCOUNT_TEXTS = {
    "en": ("An account is being taken since", "Taken at", "Published", "Tokens charged in Postgres"),
    "ru": ("Сверка идёт с", "Снята в", "Опубликовано", "Токенов списано в Postgres"),
}


@pytest.mark.parametrize("language", ["en", "ru"])
async def test_an_account_is_taken_from_the_view_of_health(
    browser: Browser, pipe: Pipeline, worker: Worker, posts: dict[str, str], language: str
) -> None:
    running, taken, inputs, charged = ACCOUNT_TEXTS[language]
    async with visitor(browser, worker.url, locale=language) as who:
        await log_in(who)
        page = await who.open("/ui/health")
        card = page.locator("[data-live='/ui/audit/part']")
        await card.locator("select").select_option("day")
        await card.locator("button").click()
        await expect(page).to_have_url(f"{worker.url}/ui/health#audit")
        await expect(card).to_contain_text(running)
        await expect(card.locator("form")).to_have_count(0)
        await expect(card).not_to_contain_text(running, timeout=60_000)  # it refreshes itself
        await expect(card).to_contain_text(taken)
        await expect(card.locator(".badge")).to_have_count(1)
        figures = dict(
            zip(await card.locator("dt").all_inner_texts(), await card.locator("dd").all_inner_texts(), strict=True)
        )
        assert int("".join(filter(str.isdigit, figures[inputs]))) >= len(posts)
        assert charged in figures
        await expect(card.locator("form button")).to_be_enabled()
        await who.check()


async def test_a_tenant_has_no_account(browser: Browser, pipe: Pipeline, worker: Worker) -> None:
    async with visitor(browser, worker.url) as who:
        await log_in(who, "mine")
        page = await who.open("/ui/health")
        await expect(page.locator("#audit")).to_have_count(0)
        await expect(page.locator("form[action='/ui/audit']")).to_have_count(0)


async def change_tenant(page: Page, action: str, state: str) -> None:
    """Change the budget on the page, and wait until it is in force."""
    await page.goto(f"/ui/tenant/change?tenant_id={MINE}&action={action}")
    await page.locator("#who").fill("anna")
    await page.locator("#reason").fill("a test")
    await page.locator("form.card button").click()
    await reload_until(page, "h1 .badge", state)


async def until_known(who: Visitor, path: str) -> None:
    """Load a post's document until a worker has opened it."""
    async with asyncio.timeout(30):
        while (answer := await who.page.goto(path)) is None or answer.status != 200:
            await asyncio.sleep(0.2)
    who.errors.clear()  # the console names each answer 404


async def test_a_tenants_session_sees_nothing_of_another_tenant(
    browser: Browser, pipe: Pipeline, worker: Worker, posts: dict[str, str]
) -> None:
    async with visitor(browser, worker.url) as who:
        await log_in(who, "theirs")
        for path in VIEWS:
            page = await who.open(path)
            assert MINE not in await page.content()
        who.errors.clear()
        for path in (
            f"/ui/tenant?tenant_id={MINE}",
            f"/ui/post?tenant_id={MINE}&post_id={posts['seen']}",
            f"/ui/post?post_id={posts['seen']}",
            f"/ui/posts?tenant_id={MINE}",
            f"/ui/dead-letters?tenant_id={MINE}",
            f"/ui/cost?tenant_id={MINE}",
        ):
            answer = await who.page.goto(path)
            assert answer is not None
            assert answer.status == 404, path
        for path in ("/ui/storage/cleanup", f"/ui/tenant/change?tenant_id={THEIRS}&action=reset"):
            answer = await who.page.goto(path)
            assert answer is not None
            assert answer.status == 403, path


async def test_the_flow_refreshes_itself(browser: Browser, pipe: Pipeline, worker: Worker) -> None:
    async with visitor(browser, worker.url) as who:
        await log_in(who)
        async with who.page.expect_response("**/ui/flow/part") as answered:
            await who.page.goto("/ui")
        assert (await answered.value).ok


async def reload_until(page: Page, selector: str, text: str) -> None:
    """Load the page again until the element has this text: a command takes effect when its actor has handled it."""
    async with asyncio.timeout(30):
        while (await page.locator(selector).inner_text()).strip() != text:
            await asyncio.sleep(0.2)
            await page.reload()


async def test_a_picture_that_is_gone_is_shown_by_a_sign(browser: Browser, pipe: Pipeline, worker: Worker) -> None:
    post, medium = unique("deleted"), await pipe.upload(MINE, picture())
    since = await pipe.newest()
    await pipe.publish(MINE, post, [medium])
    await pipe.announced([post], since)
    await pipe.s3.delete([medium.s3_key])
    async with visitor(browser, worker.url) as who:
        await log_in(who)
        for path in (f"/ui/post?tenant_id={MINE}&post_id={post}", f"/ui/posts?tenant_id={MINE}"):
            page = await who.open(path)
            image = page.locator("img.thumb").first
            await image.scroll_into_view_if_needed()
            assert await image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        await who.check()
