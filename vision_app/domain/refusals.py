"""Recognises refusals by the phrases with which the model says that it will not or cannot look.

Only whole phrases count, never single words: a document may well be about artificial intelligence.
"""

from __future__ import annotations

import re

FILTERED = frozenset({"blacklist", "request_blacklist", "response_blacklist", "request_filter", "request_whitelist"})
"""Finish reasons that mean: the text is a canned one (facts of the vendor's API, v1 and v2)."""

_HEAD_CHARS = 600  # a refusal is recognisable from its beginning

_PICTURE = r"(?:изображени|картинк|фото|файл|вложени|документ|снимок|снимк)"
_OPENING = r"(?:к сожалению|извини(?:те)?|простите|прошу прощения)?[\s,.!—-]*(?:но\s+)?(?:я\s+)?"

_PHRASES = re.compile(
    "|".join(
        (
            # cannot see
            rf"не вижу\s+(?:\w+\s+){{0,2}}{_PICTURE}",
            rf"не (?:могу|способ\w+|умею)\s+(?:\w+\s+){{0,2}}"
            rf"(?:видеть|увидеть|просмотреть|просматривать|открыть|открывать|анализировать|проанализировать|обработать|обрабатывать"
            rf"|распозна(?:ва)?ть)\s+(?:\w+\s+){{0,2}}{_PICTURE}",
            rf"(?:нет|не имею)\s+(?:\w+\s+)?доступа к\s+(?:\w+\s+){{0,2}}{_PICTURE}",
            rf"{_PICTURE}\w*\s+не\s+(?:было\s+)?(?:прикрепл|загруж|приложен|предоставл|доступн|обнаружен)",
            rf"(?:пришлите|загрузите|прикрепите|предоставьте)\s+(?:\w+[,\s]+){{0,3}}{_PICTURE}",
            r"(?:do not|don't|cannot|can't|can not|unable to)\s+(?:\w+\s+)?(?:see|view|access|open|process|analyze)"
            r"\s+(?:\w+\s+){0,2}(?:image|picture|photo|file|attachment)",
            r"(?:no|without an?)\s+(?:image|picture|photo|file|attachment)\s+(?:\w+\s+){0,2}"
            r"(?:attached|provided|uploaded)",
            # will not
            r"не (?:могу|буду)\s+(?:\w+\s+){0,2}"
            r"(?:помочь|выполнить|ответить|обсуждать|описать|описывать|комментировать)",
            r"не люблю менять тему разговора",
            r"что-то в (?:вашем|твоем|твоём) вопросе меня смущает",
            r"(?:давай(?:те)?\s+)?(?:поговорим|сменим)\s+(?:на\s+)?(?:другую\s+)?тему",
            r"генеративные языковые модели (?:не обладают|могут создавать некорректные)",
            r"как у нейросетевой языковой модели у меня",
            r"не обладает собственным мнением",
            r"(?:тем\w*|вопрос\w*)[^.]{0,80}временно ограничен",
            r"(?:i'm|i am)\s+(?:sorry|unable)[^.]{0,40}(?:can't|cannot|can not|unable|to\s+(?:assist|help))",
            r"(?:can't|cannot|can not|won't)\s+(?:assist|help|comply|fulfil+|describe)",
            r"as an ai(?: language)? model",
        )
    ),
    re.IGNORECASE,
)
_AT_ONCE = re.compile(rf"\W*{_OPENING}(?:{_PHRASES.pattern})", re.IGNORECASE)


def is_refusal(text: str) -> bool:
    """Whether a text without an answer in it is a refusal."""
    return _PHRASES.search(_plain(text)) is not None


def opens_with_refusal(description: str) -> bool:
    """Whether the description of an answer is a refusal. Only its start counts; quoted text comes later."""
    return _AT_ONCE.match(_plain(description)) is not None


def _plain(text: str) -> str:
    return " ".join(text[:_HEAD_CHARS].replace("\u2019", "'").split())
