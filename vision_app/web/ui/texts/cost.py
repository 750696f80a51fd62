"""Texts of the view of cost."""

RU = {
    "today": "сегодня",
    "yesterday": "вчера",
    "last 7 days": "последние 7 дней",
    "this month": "этот месяц",
    "tenant": "тенант",
    "channel": "канал",
    "rule": "правило",
    "model": "модель",
    "kind": "тип",
    "day": "день",
    "cache": "кэш",
    "one call for several posts": "один вызов на несколько постов",
    "OCR instead": "OCR вместо вызова",
    "Period": "Период",
    "By": "По",
    "Tokens spent": "Потрачено токенов",
    "roubles": "руб.",
    "Calls": "Вызовы",
    "of it for calls that were cut off": "из них за оборванные вызовы",
    "Roubles": "Рубли",
    "Not spent": "Не потрачено",
    "pictures": "картинок",
    "estimated": "оценка",
    "{month} so far": "{month}: на сейчас",
    "At the end of the month, at this pace": "К концу месяца при таком темпе",
    "No price: set VISION_PRICES, for example GigaChat-Pro=1.5 (roubles per 1,000 tokens). Missing: {models}": (
        "Нет цены: задайте VISION_PRICES, например GigaChat-Pro=1.5 (рублей за 1000 токенов). Не хватает: {models}"
    ),
    "Nothing was spent and nothing saved in this time.": "За это время ничего не потрачено и не сбережено.",
    "All": "Всего",
    "unknown": "неизвестно",
    "Tokens and roubles are exact, as are savings by the cache. Others: the mean of a call times the pictures.": (
        "Токены и рубли точны. Сбережённое кэшем точно, остальное — среднее за вызов, умноженное на число картинок."
    ),
}
