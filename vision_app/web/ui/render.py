"""Renders the page's templates in the language and theme of a request, with the headers that a document needs."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from vision_app.web.auth import ALL_TENANTS, SESSION_FORM, TENANT
from vision_app.web.errors import TRACE
from vision_app.web.rate import CALLER

from .texts import Language, Translate, language_of, translator

DOCUMENT_HEADERS = {
    # nothing inline, nothing from elsewhere
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
}
_BACKTICKS = re.compile(r"`([^`]+)`")
LANGUAGE_COOKIE, THEME_COOKIE = "vision_language", "vision_theme"
THEMES = ("light", "dark")
LAST_SECOND = 253_402_300_799.0
"""Of the year 9999. Later times, which a producer may cause, are shown as this one."""


@dataclass(frozen=True)
class Troubles:
    """Why the worker does not work, or None; and the services that some of its work waits for, with the reasons."""

    reason: str | None = None
    waiting_for: Mapping[str, str] = field(default_factory=dict)


TROUBLES = web.RequestKey("troubles", Troubles)

NAVIGATION = (
    ("/ui", "Flow"),
    ("/ui/posts", "Posts"),
    ("/ui/tenants", "Tenants"),
    ("/ui/dead-letters", "Dead letters"),
    ("/ui/storage", "Storage"),
    ("/ui/cost", "Cost"),
    ("/ui/health", "Health"),
)
"""Path and title of each view."""


@cache
def environment() -> Environment:
    """The templates. An unknown name in a template is an error, and every value is escaped."""
    found = Environment(
        loader=PackageLoader("vision_app.web.ui"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"number": number, "clock": clock, "iso": iso, "commands": commands}
    found.globals |= {"asset": asset_path}
    return found


def render(request: web.Request, template: str, status: int = 200, **values: Any) -> web.Response:
    """The answer with this template. `values` are the template's own; the layout's are added here."""
    language = language_of(request.cookies.get(LANGUAGE_COOKIE), request.headers.get("Accept-Language", ""))
    t = translator(language)
    theme = request.cookies.get(THEME_COOKIE)
    tenant = request.get(TENANT, "") if CALLER in request else ""  # open paths have no caller
    layout = {
        "t": t,
        "language": language,
        "theme": theme if theme in THEMES else "auto",
        "navigation": NAVIGATION,
        "path": request.path,
        "address": request.path_qs,
        "form_token": request.get(SESSION_FORM, ""),
        "tenant": tenant,
        "sees_all": tenant == ALL_TENANTS,
        "logged_in": "Authorization" not in request.headers and bool(request.cookies.get("vision_session")),
        "trace": request.get(TRACE, ""),
        "troubles": request.get(TROUBLES, Troubles()),
        "now": time.time(),
        "ago": _ago(t),
        "span": _span(t),
        "size": _size(t),
    }
    body = environment().get_template(template).render(**layout, **values)
    answer = web.Response(text=body, status=status, content_type="text/html", charset="utf-8")
    answer.headers.update({**DOCUMENT_HEADERS, "Content-Language": language, "Vary": "Accept-Language, Cookie"})
    return answer


def translate_for(request: web.Request) -> tuple[Language, Translate]:
    """The language of a request and its texts, for modules that make texts themselves."""
    language = language_of(request.cookies.get(LANGUAGE_COOKIE), request.headers.get("Accept-Language", ""))
    return language, translator(language)


def commands(text: str) -> Markup:
    """The text with what stands in backticks as code. All of it is escaped first."""
    return Markup(_BACKTICKS.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped, and only our own tags


def number(value: float | None, digits: int = 0) -> str:
    """`1234567` as `1 234 567`, with narrow no-break spaces; a dash for None."""
    return "–" if value is None else f"{value:,.{digits}f}".replace(",", "\u202f")


def iso(at: datetime | float | None) -> str:
    """The time in UTC as `2026-11-27T20:00:00Z`. A number is seconds since the epoch."""
    moment = _moment(at)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else ""


def clock(at: datetime | float | None) -> str:
    """The time in UTC as `27.11. 20:00:05`; a dash for None."""
    moment = _moment(at)
    return moment.strftime("%d.%m. %H:%M:%S") if moment else "–"


def _moment(at: datetime | float | None) -> datetime | None:
    if not isinstance(at, int | float):
        return at and at.astimezone(UTC)
    return datetime.fromtimestamp(min(max(at, 0.0), LAST_SECOND), UTC)


def _span(t: Translate) -> Callable[[float | None], str]:
    def span(seconds: float | None) -> str:
        """A duration in its largest unit."""
        if seconds is None:
            return "–"
        if seconds < 1:
            return t("{n} ms", n=round(seconds * 1000))
        for limit, unit, text in ((120, 1, "{n} s"), (7200, 60, "{n} min"), (172_800, 3600, "{n} h")):
            if seconds < limit:
                value = seconds / unit
                return t(text, n=f"{value:.1f}" if value < 10 else f"{value:.0f}")
        return t("{n} d", n=round(seconds / 86_400))

    return span


def _ago(t: Translate) -> Callable[[datetime | float | None], str]:
    span = _span(t)

    def ago(at: datetime | float | None) -> str:
        """How long ago; a dash for None."""
        moment = _moment(at)
        return "–" if moment is None else span(max(0.0, time.time() - moment.timestamp()))

    return ago


def _size(t: Translate) -> Callable[[float | None], str]:
    def size(value: float | None) -> str:
        """Bytes in the largest unit."""
        if value is None:
            return "–"
        for unit, text in ((1 << 30, "{n} GB"), (1 << 20, "{n} MB"), (1 << 10, "{n} kB")):
            if value >= unit:
                return t(text, n=f"{value / unit:.1f}")
        return t("{n} B", n=round(value))

    return size


# --- static files -----------------------------------------------------------------------------------------------------

TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@lru_cache(maxsize=64)
def asset(name: str) -> bytes:
    """A static file of the page. Raises KeyError for any other name."""
    if name not in {found.name for found in files("vision_app.web.ui").joinpath("static").iterdir()}:
        raise KeyError(name)
    return files("vision_app.web.ui").joinpath("static", name).read_bytes()


@lru_cache(maxsize=64)
def asset_path(name: str) -> str:
    """The path of a static file. It changes with the content, so that browsers may keep it for ever."""
    return f"/ui/static/{name}?v={hashlib.sha256(asset(name)).hexdigest()[:12]}"
