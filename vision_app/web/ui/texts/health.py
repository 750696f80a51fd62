"""Texts of the view of the system's health."""

RU = {
    "Everything answers, and nothing is to be done.": "Всё отвечает, делать ничего не нужно.",
    "It works, and something is to be done: see the hints.": "Работает, но есть что сделать: см. замечания.",
    "Something is broken: see what failed.": "Что-то сломано: см. ошибки.",
    "Services": "Сервисы",
    "Service": "Сервис",
    "Answer": "Ответ",
    "Latency": "Задержка",
    "Findings": "Что нашёл doctor",
    "Check": "Проверка",
    "Finding": "Что найдено и что делать",
    "ok": "в порядке",
    "hint": "замечание",
    "checked {ago} ago": "проверено {ago} назад",
    "the checks' own words are those of `vision doctor`": "слова проверок — те же, что у `vision doctor`",
    "The operators see what is wrong in detail.": "Подробности видят операторы.",
}
