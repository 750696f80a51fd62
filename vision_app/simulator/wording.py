"""The Russian words of the simulated model: a picture's statistics in the words of a person."""

from __future__ import annotations

import colorsys

from vision_app.simulator.vision import Kind, Picture

DESCRIPTION_MAX_CHARS = 160

_HUES = (
    (15, "красный"),
    (42, "оранжевый"),
    (68, "жёлтый"),
    (160, "зелёный"),
    (200, "голубой"),
    (258, "синий"),
    (295, "фиолетовый"),
    (335, "розовый"),
    (361, "красный"),
)

_KINDS: dict[Kind, str] = {
    "photo": "фотография",
    "meme": "мем",
    "document": "документ",
    "screenshot": "скриншот",
    "infographic": "инфографика",
    "other": "изображение",
}

_OBJECTS: dict[Kind, list[str]] = {
    "photo": [],
    "meme": ["подпись"],
    "document": ["строки текста"],
    "screenshot": ["окно интерфейса", "текстовые блоки"],
    "infographic": ["диаграмма", "подписи"],
    "other": [],
}

_THEMES: dict[Kind, list[str]] = {
    "photo": ["фотография"],
    "meme": ["юмор"],
    "document": ["деловая переписка"],
    "screenshot": ["интерфейс"],
    "infographic": ["данные"],
    "other": [],
}


def color_name(color: str) -> str:
    """The Russian name of '#RRGGBB'."""
    red, green, blue = (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    if lightness < 0.1:
        return "чёрный"
    if lightness > 0.92:
        return "белый"
    if saturation < 0.15 or max(red, green, blue) - min(red, green, blue) < 0.08:
        return "тёмно-серый" if lightness < 0.35 else "светло-серый" if lightness > 0.7 else "серый"
    name = next(name for limit, name in _HUES if hue * 360 < limit)
    if name == "оранжевый" and lightness < 0.5 and saturation < 0.75:
        return "коричневый"
    return f"тёмно-{name}" if lightness < 0.25 else name


def description(picture: Picture) -> str:
    """One or two Russian sentences, at most 160 characters."""
    size = f"{picture.width}×{picture.height}"
    colors = _colors(picture)
    lines = picture.statistics.lines
    text: dict[Kind, str] = {
        "photo": f"Фотография {size}, {_light(picture)}; преобладают цвета: {colors}.",
        "meme": f"Мем: фотография {size} с крупной белой подписью {_caption_place(picture)}; цвета: {colors}.",
        "document": f"Документ {size}: текст на светлом фоне, строк: {lines}.",
        "screenshot": f"Скриншот интерфейса {size}: текстовые блоки на {_ground(picture)} фоне, строк текста: {lines}.",
        "infographic": f"Инфографика {size}: диаграмма с крупными областями и подписями; цвета: {colors}.",
        "other": f"Изображение {size} без различимых деталей; цвета: {colors}.",
    }
    return text[picture.kind][:DESCRIPTION_MAX_CHARS]


def labels(picture: Picture) -> list[str]:
    shape = "вертикальный кадр" if picture.height > picture.width else "горизонтальный кадр"
    names = dict.fromkeys(color_name(color) for color in picture.colors[:3])
    text = ["текст"] if picture.kind not in ("photo", "other") else []
    return [_KINDS[picture.kind], *text, *names, shape]


def objects(picture: Picture) -> list[str]:
    return list(_OBJECTS[picture.kind])


def themes(picture: Picture) -> list[str]:
    return list(_THEMES[picture.kind])


def scene(picture: Picture) -> str | None:
    return _light(picture) if picture.kind in ("photo", "meme") else None


def document_description(mime: str, size_bytes: int) -> str:
    """A description of an attached text document."""
    return f"Текстовый документ ({mime.rpartition('/')[2][:60]}), {max(1, size_bytes // 1024)} КБ."


def plain_answer(prompt: str) -> str:
    """The answer when nothing is attached."""
    words = " ".join(prompt.split())[:80]
    return f"Это ответ симулятора GigaChat. Вы написали: «{words}». Приложите изображение, и я расскажу, что на нём."


def _colors(picture: Picture) -> str:
    return ", ".join(list(dict.fromkeys(color_name(color) for color in picture.colors))[:3])


def _light(picture: Picture) -> str:
    brightness = picture.statistics.brightness
    if brightness < 0.3:
        return "тёмная сцена"
    return "светлая сцена" if brightness > 0.6 else "сцена при обычном освещении"


def _ground(picture: Picture) -> str:
    return "тёмном" if picture.statistics.background < 128 else "светлом"


def _caption_place(picture: Picture) -> str:
    s = picture.statistics
    places = [name for rows, name in ((s.caption_top, "сверху"), (s.caption_bottom, "снизу")) if rows > 0]
    return " и ".join(places)
