"""The page's texts in Russian. English texts are written where they are used and are the keys here.

A test finds every text of the templates and of the modules and fails if it has no translation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from .audit import RU as AUDIT
from .common import RU as COMMON
from .cost import RU as COST
from .dead_letters import RU as DEAD_LETTERS
from .health import RU as HEALTH
from .posts import RU as POSTS
from .storage import RU as STORAGE
from .tenants import RU as TENANTS

Language = Literal["ru", "en"]
LANGUAGES: tuple[Language, ...] = ("ru", "en")
RUSSIAN: dict[str, str] = {**COMMON, **TENANTS, **DEAD_LETTERS, **STORAGE, **POSTS, **HEALTH, **COST, **AUDIT}

Translate = Callable[..., str]


def translator(language: Language) -> Translate:
    """A function (text, **values) → the text in the language, with `{name}` replaced by the values."""

    def t(text: str, **values: object) -> str:
        said = RUSSIAN.get(text, text) if language == "ru" else text
        return said.format(**values) if values else said

    return t


def language_of(chosen: str | None, accepted: str) -> Language:
    """The language of a request: the chosen one, else the first of `Accept-Language` that we have, else Russian."""
    for wanted in (chosen or "", *(part.partition(";")[0].strip()[:2].lower() for part in accepted.split(","))):
        for language in LANGUAGES:
            if wanted == language:
                return language
    return "ru"
