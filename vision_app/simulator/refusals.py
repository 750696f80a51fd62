"""Refusals in the words of the vendor's model. All arrive with HTTP 200."""

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
    # Contains "текст", so the assistant's former parser classified it as a document.
    "polite": ("Извините, я не могу описать это изображение или прочитать текст на нём.", "stop"),
    "cannot_see": (CANNOT_SEE, "stop"),
}
