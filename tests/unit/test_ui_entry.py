"""The page's way in: login, session, forms, language, theme, static files, and errors as documents."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import pytest
from aiohttp import CookieJar, web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from tests.unit.test_budget import TENANT
from tests.unit.test_web import Worker
from tests.web_app import application
from vision_app.operations.timeline import Cause, Stage
from vision_app.settings import load_settings
from vision_app.web import sessions
from vision_app.web.auth import digest_of
from vision_app.web.page import Page
from vision_app.web.post_models import PlaceNow
from vision_app.web.routes import ROUTES
from vision_app.web.ui import base as ui_base
from vision_app.web.ui import render as ui_render
from vision_app.web.ui.base import own_path
from vision_app.web.ui.entry import AssetView, LoginView, LogoutView, PreferenceView, RootView
from vision_app.web.ui.flow import TITLES
from vision_app.web.ui.post_texts import CAUSE_TEXTS, EFFECT_TEXTS, PLACE_TEXTS, STAGE_TEXTS, STATUS_TEXTS
from vision_app.web.ui.render import NAVIGATION
from vision_app.web.ui.texts import RUSSIAN, language_of

FOLDER = Path(ui_base.__file__).parent


class ProbeView(ui_base.UiPage):
    """A view of the page for these tests: shows the form's token, and takes a form."""

    async def get(self, request: web.Request) -> web.Response:
        return ui_render.render(request, "login.html", next="/ui", refused=False)


PAGES: dict[str, type[Page]] = {
    "/": RootView,
    "/ui/login": LoginView,
    "/ui/logout": LogoutView,
    "/ui/preference": PreferenceView,
    "/ui/static/{name}": AssetView,
    "/ui/probe": ProbeView,
}


@asynccontextmanager
async def browser(**settings: Any) -> AsyncIterator[TestClient[Any, Any]]:
    """A browser with cookies before the page. It does not follow redirects."""
    worker = Worker()
    worker.settings = load_settings(**settings)
    app = application(worker.settings, worker, {**ROUTES, **PAGES})
    async with TestClient(TestServer(app), cookie_jar=CookieJar(unsafe=True)) as client:
        yield client


@pytest.fixture
async def guarded() -> AsyncIterator[TestClient[Any, Any]]:
    async with browser(vision_api_tokens=f"every=*,mine={TENANT}") as client:
        yield client


async def log_in(client: TestClient[Any, Any], token: str) -> Any:
    return await client.post("/ui/login", data={"token": token, "next": "/ui/probe"}, allow_redirects=False)


async def form_token(client: TestClient[Any, Any]) -> str:
    async with client.get("/ui/probe") as answer:
        (found,) = re.findall(
            r'action="/ui/logout"><input type="hidden" name="form_token" value="(\w+)"', await answer.text()
        )
    return str(found)


# --- sessions ---------------------------------------------------------------------------------------------------------

DIGEST, OTHER = digest_of("every"), digest_of("other")


def test_a_session_is_that_of_its_token_until_it_ends() -> None:
    cookie = sessions.issue(DIGEST, 1000)
    assert sessions.verify(cookie, [OTHER, DIGEST], 1000) == DIGEST
    assert sessions.verify(cookie, [DIGEST], 1000 + sessions.LIFETIME_SECONDS) == DIGEST
    assert sessions.verify(cookie, [DIGEST], 1001 + sessions.LIFETIME_SECONDS) is None


def test_a_session_ends_when_its_token_is_removed() -> None:
    assert sessions.verify(sessions.issue(DIGEST, 1000), [OTHER], 1000) is None


def test_a_session_does_not_contain_the_token_or_all_of_its_digest() -> None:
    cookie = sessions.issue(DIGEST, 1000)
    assert "every" not in cookie
    assert DIGEST.hex() not in cookie


@given(st.text(max_size=80))
def test_no_other_text_is_a_session(text: str) -> None:
    assert sessions.verify(text, [DIGEST], 0) is None


@given(st.integers(0, 200), st.characters())
def test_a_changed_session_is_none(place: int, character: str) -> None:
    cookie = sessions.issue(DIGEST, 1000)
    place %= len(cookie)
    changed = cookie[:place] + character + cookie[place + 1 :]
    assert changed == cookie or sessions.verify(changed, [DIGEST], 1000) is None


# --- login ------------------------------------------------------------------------------------------------------------


async def test_without_a_session_the_page_leads_to_the_login_and_back(guarded: TestClient[Any, Any]) -> None:
    async with guarded.get("/ui/probe?a=b", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "/ui/login?next=/ui/probe%3Fa%3Db")
    async with guarded.get(answer.headers["Location"]) as answer:
        assert 'value="/ui/probe?a=b"' in await answer.text()


async def test_a_token_opens_the_page_and_reading_of_the_api_but_no_change(guarded: TestClient[Any, Any]) -> None:
    answer = await log_in(guarded, "every")
    assert (answer.status, answer.headers["Location"]) == (303, "/ui/probe")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "every" not in cookie
    async with guarded.get("/ui/probe", allow_redirects=False) as answer:
        assert answer.status == 200
    async with guarded.get("/api/v1/vision/stats") as answer:
        assert answer.status == 200
    async with guarded.post(f"/api/v1/budget/{TENANT}/reset") as answer:
        assert answer.status == 401


async def test_behind_https_the_session_is_sent_by_https_only(guarded: TestClient[Any, Any]) -> None:
    headers = {"X-Forwarded-Proto": "https"}
    async with guarded.post("/ui/login", data={"token": "every"}, headers=headers, allow_redirects=False) as answer:
        assert "Secure" in answer.headers["Set-Cookie"]


async def test_a_session_of_a_tenant_reads_that_tenant_only(guarded: TestClient[Any, Any]) -> None:
    await log_in(guarded, "mine")
    async with guarded.get(f"/api/v1/budget/{TENANT}") as answer:
        assert answer.status == 200
    async with guarded.get("/api/v1/budget/other") as answer:
        assert answer.status == 404


async def test_a_wrong_token_is_refused_and_guessing_is_slowed_down(guarded: TestClient[Any, Any]) -> None:
    answer = await log_in(guarded, "wrong")
    assert answer.status == 401
    assert "Set-Cookie" not in answer.headers
    found = {(await log_in(guarded, f"guess{number}")).status for number in range(40)}
    assert found == {401, 429}


async def test_logging_out_needs_the_form_of_this_session(guarded: TestClient[Any, Any]) -> None:
    await log_in(guarded, "every")
    async with guarded.post("/ui/logout", data={"form_token": "0" * 64}) as answer:
        assert answer.status == 403
    async with guarded.post("/ui/logout") as answer:
        assert answer.status == 403
    data = {"form_token": await form_token(guarded)}
    async with guarded.post("/ui/logout", data=data, allow_redirects=False) as answer:
        assert answer.status == 303
    async with guarded.get("/ui/probe", allow_redirects=False) as answer:
        assert answer.status == 303


async def test_a_form_of_another_session_is_refused() -> None:
    async with browser(vision_api_tokens="every=*,more=*") as client:
        await log_in(client, "every")
        other = await form_token(client)
        client.session.cookie_jar.clear()
        await log_in(client, "more")
        async with client.post("/ui/logout", data={"form_token": other}) as answer:
            assert answer.status == 403


async def test_without_tokens_there_is_no_login() -> None:
    async with browser() as client, client.get("/ui/login", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "/ui")


@pytest.mark.parametrize(
    "given",
    [
        "https://evil.example",
        "//evil.example",
        "/ui.evil",
        "/uix",
        "/\\evil",
        "/ui\\evil",
        "/ui/\nX: y",
        None,
        "",
        "javascript:1",
    ],
)
def test_the_login_leads_only_to_the_page_itself(given: str | None) -> None:
    assert own_path(given) == "/ui"


# --- documents --------------------------------------------------------------------------------------------------------


async def test_root_leads_to_the_page(guarded: TestClient[Any, Any]) -> None:
    async with guarded.get("/", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "/ui")


async def test_a_document_allows_nothing_inline_and_nothing_from_elsewhere(guarded: TestClient[Any, Any]) -> None:
    async with guarded.get("/ui/login") as answer:
        policy, body = answer.headers["Content-Security-Policy"], await answer.text()
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert not re.search(r"<script>|<style|\son\w+=|\sstyle=|https?://", body)


async def test_errors_of_the_page_are_documents_in_the_language_of_the_browser() -> None:
    async with browser() as client:
        for language, text in (("ru", "Не найдено"), ("en-GB,ru;q=0.5", "Not found")):
            async with client.get("/ui/static/none.css", headers={"Accept-Language": language}) as answer:
                body = await answer.text()
            assert answer.status == 404
            assert text in body
            assert answer.headers["X-Trace-ID"] in body


async def test_language_and_theme_are_kept(guarded: TestClient[Any, Any]) -> None:
    url = "/ui/preference?language=en&theme=dark&next=/ui/login"
    async with guarded.get(url, headers={"Accept-Language": "ru"}) as answer:
        body = await answer.text()
    assert '<html lang="en" data-theme="dark">' in body


async def test_static_files_may_be_kept_and_change_their_address_with_their_content(
    guarded: TestClient[Any, Any],
) -> None:
    path = ui_render.asset_path("ui.css")
    async with guarded.get(path) as answer:
        assert (answer.status, answer.content_type) == (200, "text/css")
        assert "immutable" in answer.headers["Cache-Control"]
    for name in ("..%2Ftexts%2Fcommon.py", "none.css", "%00"):
        async with guarded.get(URL(f"/ui/static/{name}", encoded=True)) as answer:
            assert answer.status == 404


def test_the_language_is_the_chosen_one_or_the_first_accepted_that_there_is() -> None:
    assert language_of(None, "de,en;q=0.8,ru;q=0.5") == "en"
    assert language_of("ru", "en") == "ru"
    assert language_of("xx", "") == "ru"


# --- texts ------------------------------------------------------------------------------------------------------------

CALL = re.compile(r"""\bt\(\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)')""")


def texts() -> dict[str, str]:
    """Every text given to `t(...)` in templates and modules, with its file."""
    found = {}
    for file in sorted([*FOLDER.rglob("*.html"), *FOLDER.rglob("*.py")]):
        for double, single in CALL.findall(file.read_text("utf-8")):
            found[(double or single).replace('\\"', '"')] = file.name
    return found


def test_every_text_of_the_page_has_a_translation() -> None:
    used = texts()
    assert len(used) > 30
    missing = {text: file for text, file in used.items() if text not in RUSSIAN}
    assert not missing
    by_name = {title for _, title in NAVIGATION} | set(TITLES.values()) | set(STAGE_TEXTS.values())
    by_name |= {text for _, text in STATUS_TEXTS.values()} | {text for pair in CAUSE_TEXTS.values() for text in pair}
    by_name |= {text for _, text in EFFECT_TEXTS.values()} | set(PLACE_TEXTS.values())
    assert set(PLACE_TEXTS) == set(get_args(PlaceNow))
    assert by_name - {""} <= set(RUSSIAN)
    assert set(CAUSE_TEXTS) == set(get_args(Cause))
    assert set(STAGE_TEXTS) == set(get_args(Stage))


def test_translations_have_the_same_values() -> None:
    for english, russian in RUSSIAN.items():
        assert set(re.findall(r"{(\w+)}", english)) == set(re.findall(r"{(\w+)}", russian)), english
