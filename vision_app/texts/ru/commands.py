"""One line about each command, in the help of `vision`."""

RU = {
    "The main job, end to end, on real services: start here.": (
        "Главное, от начала до конца, на настоящих сервисах: начните отсюда."
    ),
    "Start the services and the worker in the background.": "Запустить сервисы и воркер в фоне.",
    "Stop everything `vision up` started.": "Остановить всё, что запустил `vision up`.",
    "What runs, where, since when, with how much memory.": "Что работает, где, с каких пор, сколько памяти занимает.",
    "Show the log of a service.": "Показать лог сервиса.",
    "Run a worker here, in the foreground.": "Запустить воркер здесь, на переднем плане.",
    "Look for what keeps the system from working, and say what to do.": (
        "Найти, что мешает системе работать, и сказать, что делать."
    ),
    "Tables, topics and bucket: are they as we made them; put back what is missing.": (
        "Таблицы, топики и бакет: такие ли, как мы их создали; вернуть недостающее."
    ),
    "The effective configuration and where each value comes from.": (
        "Действующие настройки и откуда взято каждое значение."
    ),
    "Which media are analyzed: check the policy file, explain its verdicts.": (
        "Какие медиа анализируются: проверить файл политики, объяснить её решения."
    ),
    "One post through the whole pipeline, checked step by step (acceptance guide).": (
        "Один пост через весь конвейер с проверкой каждого шага (руководство по приёмке)."
    ),
    "Publish test posts: valid, without their objects, unreadable.": (
        "Опубликовать тестовые посты: правильные, без объектов, нечитаемые."
    ),
    "What is known of a post; counts of streams and storage; would a file be analyzed.": (
        "Что известно о посте; счётчики потоков и хранилища; будет ли файл анализироваться."
    ),
    "Put a picture into the bucket as a producer does, where there is room.": (
        "Положить картинку в бакет, как это делает продюсер, если есть место."
    ),
    "What the bucket holds and may hold; clean it up.": "Что лежит в бакете и сколько ещё можно; очистка.",
    "Every hop of one post with its time, and where it stopped.": (
        "Каждый шаг одного поста со временем и место, где он остановился."
    ),
    "Which posts hang, since when, waiting for what.": "Какие посты зависли, с каких пор и чего ждут.",
    "Was every input answered once, and every token charged once: the accounts.": (
        "Получил ли каждый вход один ответ и списан ли каждый токен один раз: сверка."
    ),
    "What could not be processed: list, show, replay, discard; set a record aside.": (
        "Что не удалось обработать: список, показ, повтор, списание; отложить запись."
    ),
    "Send recorded inputs again, by time, offsets or provider.": (
        "Отправить записанные входы снова: по времени, смещениям или провайдеру."
    ),
    "What tenants spent and may spend: show, set a limit, reset, who waits.": (
        "Сколько тенанты потратили и могут потратить: показать, задать лимит, обнулить, кто ждёт."
    ),
    "What was spent and what was saved, by tenant, channel, model, kind or day.": (
        "Сколько потрачено и сколько сэкономлено: по тенантам, каналам, моделям, видам или дням."
    ),
    "Let nothing new start for a tenant, or for all.": "Не начинать ничего нового для тенанта или для всех.",
    "Let the work of a paused tenant, or of all, go on.": "Продолжить работу приостановленного тенанта или всех.",
    "A long run with killed workers and failing services, and its account.": (
        "Долгий прогон с убийством воркеров и сбоями сервисов и его сверка."
    ),
    "How fast it is, beside a plain worker: everything at once, or one thing.": (
        "Насколько система быстра, рядом с простым воркером: всё сразу или что-то одно."
    ),
    "Kafka's own console tools, connected to the configured broker.": (
        "Собственные консольные утилиты Kafka, подключённые к настроенному брокеру."
    ),
    "Commands": "Команды",
    "the argument {text} is not UTF-8; check the terminal's encoding": (
        "аргумент {text} не в UTF-8; проверьте кодировку терминала"
    ),
    "`vision migrate refill` writes the charges that Kafka still has once more, and results": (
        "`vision migrate refill` ещё раз запишет списания, которые есть в Kafka, и результаты"
    ),
}
