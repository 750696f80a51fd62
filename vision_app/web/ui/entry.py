"""The way in: login and logout, language and theme, static files, and `/`."""

from __future__ import annotations

import time
from typing import Annotated, Literal

from aiohttp import web
from pydantic import BaseModel, Field

from vision_app.web import sessions
from vision_app.web.auth import PAGES, digest_of, digests, tenant_of
from vision_app.web.errors import ApiError, count_refused
from vision_app.web.operation import operation
from vision_app.web.page import Page

from .base import UiPage, own_path, see_other
from .render import LANGUAGE_COOKIE, THEME_COOKIE, TYPES, asset, render
from .texts import Language

YEAR_SECONDS = 365 * 24 * 3600


class NextQuery(BaseModel):
    next: Annotated[str, Field(max_length=2000)] | None = None


class LoginForm(BaseModel):
    token: Annotated[str, Field(max_length=1000)] = ""
    next: Annotated[str, Field(max_length=2000)] | None = None


class LogoutForm(BaseModel):
    """No fields of its own."""


class PreferenceQuery(NextQuery):
    language: Language | None = None
    theme: Literal["light", "dark", "auto"] | None = None


class AssetPath(BaseModel):
    name: str


class AssetQuery(BaseModel):
    v: str = ""


class RootView(Page):
    """GET /: leads to the page."""

    async def get(self, request: web.Request) -> web.Response:
        return see_other(PAGES)


class LoginView(UiPage):
    """/ui/login: a browser exchanges a token of VISION_API_TOKENS for a session."""

    @operation("The login", query=NextQuery, answers={})
    async def get(self, request: web.Request, query: NextQuery) -> web.Response:
        if not digests(self.app.settings):
            return see_other(own_path(query.next))
        return render(request, "login.html", next=own_path(query.next), refused=False)

    async def post(self, request: web.Request) -> web.Response:
        # no session yet, so no form token: a login by another site only gives that browser the other site's token,
        # and `same_origin` refuses it before
        given = {name: str(value) for name, value in (await request.post()).items()}
        form = LoginForm.model_validate({k: v[:1000] for k, v in given.items() if k in LoginForm.model_fields})
        known, digest = digests(self.app.settings), digest_of(form.token.strip())
        if tenant_of(digest, known) is None:
            count_refused("unauthorized")
            return render(request, "login.html", 401, next=own_path(form.next), refused=True)
        answer = see_other(own_path(form.next))
        answer.set_cookie(
            sessions.COOKIE,
            sessions.issue(digest, time.time()),
            max_age=sessions.LIFETIME_SECONDS,
            httponly=True,
            samesite="Strict",
            secure=_is_https(request),
            path="/",
        )
        return answer


class LogoutView(UiPage):
    """POST /ui/logout: ends the session of this browser."""

    async def post(self, request: web.Request) -> web.Response:
        await self.form(request, LogoutForm)
        answer = see_other("/ui/login")
        answer.del_cookie(sessions.COOKIE, path="/")
        return answer


class PreferenceView(UiPage):
    """GET /ui/preference: keeps the chosen language or theme in a cookie."""

    @operation("Choose language or theme", query=PreferenceQuery, answers={})
    async def get(self, request: web.Request, query: PreferenceQuery) -> web.Response:
        answer = see_other(own_path(query.next))
        for name, value in ((LANGUAGE_COOKIE, query.language), (THEME_COOKIE, query.theme)):
            if value is not None:
                answer.set_cookie(name, value, max_age=YEAR_SECONDS, samesite="Strict", httponly=True, path="/")
        return answer


class AssetView(UiPage):
    """GET /ui/static/{name}: style sheet, script and pictures of the page. They hold no data and need no login."""

    @operation("A static file", path=AssetPath, query=AssetQuery, answers={})
    async def get(self, request: web.Request, path: AssetPath, query: AssetQuery) -> web.Response:
        try:
            body = asset(path.name)
        except KeyError:
            raise ApiError(404, "not_found", "there is no such file") from None
        kind = TYPES["." + path.name.rpartition(".")[2]]
        headers = {"Cache-Control": "public, max-age=31536000, immutable" if query.v else "no-cache"}
        return web.Response(body=body, content_type=kind, charset="utf-8", headers=headers)


def _is_https(request: web.Request) -> bool:
    return request.secure or request.headers.get("X-Forwarded-Proto", "").lower() == "https"
