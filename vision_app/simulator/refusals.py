"""Refusals, as the vendor's model words them. All arrive at HTTP 200."""

from __future__ import annotations

from typing import Literal

RefusalName = Literal["blacklist", "polite", "cannot_see"]

CANNOT_SEE = "К сожалению, я не вижу изображение. Пожалуйста, загрузите его ещё раз или опишите словами."

REFUSALS: dict[RefusalName, tuple[str, str]] = {
    "blacklist": (
        "Как и любая языковая модель, GigaChat не обладает собственным мнением и не транслирует мнение своих "
        "разработчиков. Разговоры на некоторые темы временно ограничены.",
        "blacklist",
    ),
    # Says "текст", which the assistant's former parser took for a document.
    "polite": ("Извините, я не могу описать это изображение или прочитать текст на нём.", "stop"),
    "cannot_see": (CANNOT_SEE, "stop"),
}
