"""What every view of the page shares: checked forms, redirects, and errors as documents."""

from __future__ import annotations

import hmac
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from aiohttp import web
from pydantic import BaseModel

from vision_app.web.auth import LOGIN, PAGES, SESSION_FORM
from vision_app.web.errors import ApiError, Handler
from vision_app.web.operation import check
from vision_app.web.page import Page

from .render import TROUBLES, Troubles, render

Form = TypeVar("Form", bound=BaseModel)

FORM_FIELD = "form_token"
TITLES = {
    400: "The request is not correct",
    403: "Not allowed",
    404: "Not found",
    409: "The request is not correct",
    422: "The request is not correct",
    429: "Too many requests",
    503: "A service does not answer",
}


class UiPage(Page):
    """A view of the page. Every document says what the worker waits for."""

    async def dispatch(self, request: web.Request) -> Any:
        request[TROUBLES] = Troubles(self.app.not_ready(), self.app.waiting_for())
        return await super().dispatch(request)

    async def form(self, request: web.Request, model: type[Form], leave_out: Collection[str] = ()) -> Form:
        """The fields of a sent form. Raises ApiError 403 if it is not from this session, 422 if a field is wrong.

        `leave_out`: fields that the view reads itself, as they may be there several times.
        """
        given = {name: str(value) for name, value in (await request.post()).items() if name not in leave_out}
        token = given.pop(FORM_FIELD, "")
        if not hmac.compare_digest(token.encode(), request.get(SESSION_FORM, "").encode()) or not token:
            raise ApiError(403, "form_expired", "The form has expired. Open it again.")
        return check("body", model, {name: value for name, value in given.items() if value != ""})


def utc_now() -> datetime:
    return datetime.now(UTC)


def see_other(path: str, **query: str) -> web.Response:
    """A redirect after a form, so that reloading does not send it again. `path` is one of ours."""
    where = f"{path}?{urlencode(query)}" if query else path
    return web.Response(status=303, headers={"Location": where})


def paging(path: str, kept: Mapping[str, object], cursor: str | None, next_cursor: str | None) -> dict[str, Any]:
    """The links of a list: `first` to its first page, `following` to the next one; empty where there is none.

    `kept`: the filters, which stay as they are.
    """
    return {
        "first": f"{path}?{urlencode(kept)}" if cursor else "",
        "following": f"{path}?{urlencode({**kept, 'cursor': next_cursor})}" if next_cursor else "",
    }


def own_path(given: str | None) -> str:
    """The path to return to after the login: only one of the page's own."""
    usable = given is not None and given.startswith(PAGES) and given[len(PAGES) :][:1] in ("", "/", "?")
    usable = usable and given is not None and given.isprintable() and "\\" not in given
    return given if usable and given is not None else PAGES


@web.middleware
async def html_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Show errors of the page's paths as documents. Without a session the browser is sent to the login."""
    if request.path != PAGES and not request.path.startswith(f"{PAGES}/"):
        return await handler(request)
    try:
        return await handler(request)
    except ApiError as fault:
        if fault.status == HTTPStatus.UNAUTHORIZED and request.headers.get("Sec-Fetch-Dest", "document") == "document":
            return web.Response(status=303, headers={"Location": f"{LOGIN}?next={quote(own_path(request.path_qs))}"})
        faults = fault.details.get("faults", [])
        title = TITLES.get(fault.status, "Something went wrong")
        answer = render(
            request, "error.html", fault.status, title=title, text=fault.text, code=fault.code, faults=faults
        )
        answer.headers.update({k: v for k, v in fault.headers.items() if k == "Retry-After"})
        return answer
    except web.HTTPNotFound:
        return render(request, "error.html", 404, title="Not found", text="", code="not_found", faults=[])
