"""The texts of the commands in the operator's language.

An English text is written where it is used, `say("{count} letters", count=3)`, and is the key of its Russian version in
`ru`. Only the `vision` command chooses a language: workers, the API, logs and everything stored are English.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

Language = Literal["ru", "en"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
VARIABLE = "VISION_LANG"
LOCALE = ("LC_ALL", "LC_MESSAGES", "LANG")
"""The variables of the locale. The first one that is set counts, as POSIX says."""


class UnknownLanguage(ValueError):
    """VISION_LANG names a language that there is not. The message says what to set."""


class _Chosen:
    """The language of this process."""

    language: Language = "en"


def language_of(environment: Mapping[str, str]) -> Language:
    """The language that an environment asks for: VISION_LANG, else the locale. Raises UnknownLanguage."""
    if wanted := environment.get(VARIABLE, "").strip():
        for language in LANGUAGES:
            if wanted.lower() == language:
                return language
        raise UnknownLanguage(f"{VARIABLE} is {wanted!r}; set it to {' or '.join(LANGUAGES)}, or remove it")
    locale = next((value for name in LOCALE if (value := environment.get(name))), "")
    return "ru" if locale.lower().startswith("ru") else "en"


def use(language: Language) -> None:
    """Say everything in this language from now on."""
    _Chosen.language = language


def language() -> Language:
    """The language in use."""
    return _Chosen.language


def say(text: str, /, **values: object) -> str:
    """The text in the language in use, with `{name}` replaced by the values. A text without values stays as it is."""
    if _Chosen.language == "ru":
        from .russian import russian

        text = russian(text, values)
    return text.format(**values) if values else text


def said(*texts: str) -> tuple[str, ...]:
    """Several texts without values: the headings of a table."""
    return tuple(say(text) for text in texts)


def noted(text: str) -> str:
    """A text that something else says later, `say(text)`: a constant is made before the language is known."""
    return text


def heard(text: str) -> str:
    """What a worker or the supervisor said, in English, in the language in use; as it is if it is not known."""
    if _Chosen.language == "en" or not text:
        return text
    from .russian import russian_of

    return russian_of(text)
