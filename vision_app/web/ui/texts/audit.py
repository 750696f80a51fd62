"""Texts of the account on the view of health."""

RU = {
    "Account": "Сверка",
    "Was every post answered once, and every token charged once?": (
        "Получил ли каждый пост один ответ и списан ли каждый токен один раз?"
    ),
    (
        "`vision audit` answers it from all stores. It takes 15 s of processor time for 10,000 posts, in a process of "
        "its own."
    ): "На это по всем хранилищам отвечает `vision audit`: 15 с процессора на 10 000 постов, в отдельном процессе.",
    "Not known while Postgres does not answer.": "Неизвестно, пока не отвечает Postgres.",
    "An account is being taken since {time} UTC, by worker {worker}.": "Сверка идёт с {time} UTC, её ведёт {worker}.",
    "The account of {time} UTC has no result: {reason}": "Сверка от {time} UTC без результата: {reason}",
    "nothing is wrong": "всё верно",
    "discrepancies: {n}": "расхождений: {n}",
    "Taken at {time} UTC, {ago} ago, in {span}.": "Снята в {time} UTC, {ago} назад, за {span}.",
    "Published since {time} UTC.": "Опубликовано с {time} UTC.",
    "All data that is kept.": "Все хранимые данные.",
    "`vision audit` shows the rest.": "Остальные покажет `vision audit`.",
    "No account was taken yet.": "Сверки ещё не было.",
    "Of": "За",
    "everything that is kept": "всё, что хранится",
    "the last 24 hours": "последние 24 часа",
    "the last 7 days": "последние 7 дней",
    "Take an account": "Запустить сверку",
    "The last account": "Последняя сверка",
    "Published": "Опубликовано",
    "Answered": "Получили ответ",
    "On the way": "В работе",
    "Not answered": "Без ответа",
    "Announced twice": "Объявлено дважды",
    "Calls": "Вызовы",
    "Calls beyond one per picture": "Вызовов сверх одного на картинку",
    "Tokens billed": "Токенов в счёте",
    "Tokens charged in the ledgers": "Токенов списано в учёте",
    "Tokens charged in Postgres": "Токенов списано в Postgres",
}
