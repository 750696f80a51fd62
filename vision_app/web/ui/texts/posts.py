"""Texts of the posts' views."""

RU = {
    "analyzed": "проанализирован",
    "partly analyzed": "проанализирован частично",
    "skipped": "пропущен",
    "deferred": "отложен",
    "in work now": "в работе",
    "failed": "ошибка",
    "It is being looked at now.": "Сейчас анализируется.",
    "Deferred: its tenant's money of the day is spent.": "Отложено: деньги тенанта на сегодня кончились.",
    "It goes on by itself on the new day, or at once if the limit is raised or the spending reset.": (
        "Продолжится само с новым днём или сразу, если поднять лимит или обнулить траты."
    ),
    "Its tenant is paused.": "Тенант на паузе.",
    "Resume the tenant.": "Снимите паузу с тенанта.",
    "GigaChat does not answer.": "GigaChat не отвечает.",
    "It goes on by itself when GigaChat answers.": "Продолжится само, когда GigaChat ответит.",
    "A service does not answer.": "Сервис не отвечает.",
    "It goes on by itself when the service answers; see Health.": (
        "Продолжится само, когда сервис ответит; см. «Состояние»."
    ),
    "Image analysis is switched off: FEATURE_VISION_ENABLED is false.": (
        "Анализ картинок выключен: FEATURE_VISION_ENABLED равно false."
    ),
    "Set FEATURE_VISION_ENABLED=true and restart the worker.": (
        "Задайте FEATURE_VISION_ENABLED=true и перезапустите воркер."
    ),
    "A rule of the policy skips it.": "Её пропускает правило политики.",
    "Change the rule in the policy file, then publish the post again.": (
        "Измените правило в файле политики и опубликуйте пост снова."
    ),
    "The picture is not in the bucket, or may not be read.": "Картинки нет в бакете, или её нельзя прочитать.",
    "Upload it (`vision upload`), then publish the post again.": (
        "Загрузите её (`vision upload`) и опубликуйте пост снова."
    ),
    "Its message could not be handled and is among the dead letters.": (
        "Сообщение не удалось обработать, оно среди dead letters."
    ),
    "Look at the dead letter, then replay or discard it.": "Посмотрите письмо, затем отправьте снова или отложите его.",
    "The file cannot be used as a picture.": "Файл нельзя использовать как картинку.",
    "Publish it again as JPEG or PNG.": "Опубликуйте снова как JPEG или PNG.",
    "GigaChat refuses to look at this picture.": "GigaChat отказывается смотреть эту картинку.",
    "It waited for money, and its place in the queue was given up or the queue was full.": (
        "Она ждала денег, но её место в очереди отдали или очередь была полна."
    ),
    "Publish the post again when the tenant has money.": "Опубликуйте пост снова, когда у тенанта будут деньги.",
    "It has no result.": "Результата нет.",
    "way in": "вход",
    "policy": "политика",
    "opening": "открытие",
    "look-up": "проверка",
    "budget asked again": "повторный запрос бюджета",
    "wait for money or a slot": "ожидание денег или слота",
    "decoding and turn": "декодирование и очередь",
    "GigaChat": "GigaChat",
    "way back": "возврат",
    "completion": "завершение",
    "storing": "запись",
    "Words on the pictures": "Слова на картинках",
    "Channel": "Канал",
    "Label": "Метка",
    "After": "После",
    "Before": "До",
    "as in 2026-11-27T10:00": "например 2026-11-27T10:00",
    "any": "любое",
    "Search": "Искать",
    "No post fits. Loosen the filters, or look for the post by its id.": (
        "Ничего не подходит. Ослабьте фильтры или найдите пост по id."
    ),
    "No post has come yet. A producer publishes to the Redis stream; `vision publish` does it by hand.": (
        "Постов ещё нет. Продюсер публикует их в поток Redis; вручную это делает `vision publish`."
    ),
    "Seen": "Что видно",
    "Tokens": "Токены",
    "Changed": "Изменён",
    "pictures: {n}": "картинок: {n}",
    "till {time} UTC": "до {time} UTC",
    "no picture": "нет картинки",
    "Why there is no result": "Почему нет результата",
    "Rule": "Правило",
    "It goes on at": "Продолжится",
    "Money then": "Деньги тогда",
    "{spent} of {limit} tokens were spent; it may cost {estimate}": (
        "потрачено {spent} из {limit} токенов; может стоить {estimate}"
    ),
    "Details": "Подробности",
    "Confidence": "Уверенность",
    "Labels": "Метки",
    "Meme": "Мем",
    "Text on the picture": "Текст на картинке",
    "Model": "Модель",
    "from the cache, free": "из кэша, бесплатно",
    "answered by the built-in simulator, not by GigaChat": "ответил встроенный симулятор, а не GigaChat",
    "Pictures of the post": "Картинки поста",
    "Timeline": "По времени",
    "in all {span}": "всего {span}",
    "Stage": "Этап",
    "Duration": "Длительность",
    "whole post": "пост целиком",
    "Its times are shown when it has ended.": "Времена появятся, когда он закончится.",
    "This post has no times: an older version wrote it.": "У этого поста нет времён: его записала старая версия.",
    "Nothing is known of this post": "Об этом посте ничего не известно",
    "It was not published, or it belongs to another tenant. Look at the input stream with `vision trace {post}`.": (
        "Он не публиковался или принадлежит другому тенанту. Входной поток покажет `vision trace {post}`."
    ),
    "Image analysis is switched off (FEATURE_VISION_ENABLED=false), so no new post is taken from the input stream.": (
        "Анализ картинок выключен (FEATURE_VISION_ENABLED=false), новые посты из входного потока не берутся."
    ),
    "Kafka does not answer, so it is not known whether a dead letter names this post.": (
        "Kafka не отвечает, поэтому неизвестно, есть ли dead letter этого поста."
    ),
    "It is among the dead letters:": "Он среди dead letters:",
    "Dead letters of this post": "Dead letters этого поста",
    "Money of this tenant": "Деньги этого тенанта",
    # where it is now
    "Where it is now": "Где он сейчас",
    "For": "Сколько",
    "Waits for": "Чего ждёт",
    "There is a new result.": "Есть новый результат.",
    "Not known now: {who} does not answer.": "Сейчас неизвестно: не отвечает {who}.",
    "No worker holds it open: it is still on its way in, or it ended a day ago or longer.": (
        "Ни один воркер его не держит: он ещё на входе или закончен сутки назад или раньше."
    ),
    "its owner": "его воркер",
    "its tenant's ledger": "бюджет тенанта",
    "Every picture has ended.": "Все картинки закончены.",
    "Its result is being stored: {store}, for {span}.": "Результат записывается: {store}, уже {span}.",
    "In the stage “{stage}” for {span}.": "На этапе «{stage}» уже {span}.",
    "Postgres does not answer, so its stored result cannot be shown. This is where the post is now.": (
        "Postgres не отвечает, сохранённый результат показать нельзя. Вот где пост сейчас."
    ),
    "its stored answer and its object are looked up": "ищется сохранённый ответ и объект",
    "it waits for its tenant's money or a slot": "ждёт денег тенанта или места",
    "it may be asked about and waits for a worker": "разрешена и ждёт воркера",
    "it is read and decoded": "читается и декодируется",
    "it waits for its turn at GigaChat": "ждёт очереди к GigaChat",
    "GigaChat is being asked": "идёт запрос к GigaChat",
    "on its way between two stages": "в пути между этапами",
    "it has ended": "закончена",
    # replay
    "Send the post again": "Отправить пост снова",
    "Send the post again…": "Отправить пост снова…",
    "shows first what it may cost": "сначала покажет, сколько это может стоить",
    "Nothing was sent: it may cost more now than the preview said. Look at it again.": (
        "Ничего не отправлено: теперь это может стоить больше, чем было показано. Посмотрите ещё раз."
    ),
    "A finished call is not paid again while its answer is stored. "
    "The policy and the tenant's budget decide anew; what the policy skips costs nothing.": (
        "Законченный вызов не оплачивается снова, пока хранится его ответ. "
        "Политика и бюджет тенанта решают заново; пропущенное политикой ничего не стоит."
    ),
    "Paid again: {n} of the pictures were paid for before, and there is no stored answer to use.": (
        "Будет оплачено снова: за {n} из картинок уже платили, а пригодного сохранённого ответа нет."
    ),
    "The post is in work now. A replay adds nothing to what is under way; see what it waits for.": (
        "Пост сейчас в работе. Повторная отправка ничего не добавит к начатому; посмотрите, чего он ждёт."
    ),
    "What happens": "Что будет",
    "Paid so far": "Уже оплачено",
    "At most": "Не больше",
    "What is sent": "Что отправится",
    "Ask again by force": "Спросить заново принудительно",
    "Also pictures that are in work or deferred, and answers that were refused, partial or by OCR. "
    "These are paid for again. A good stored answer stays free.": (
        "Также картинки в работе и отложенные, а также отказы, неполные ответы и ответы OCR. "
        "За них платят снова. Хороший сохранённый ответ остаётся бесплатным."
    ),
    "Send by force, at most {tokens} tokens": "Отправить принудительно, не больше {tokens} токенов",
    "Send, at most {tokens} tokens": "Отправить, не больше {tokens} токенов",
    "free: its stored answer is used": "бесплатно: есть сохранённый ответ",
    "it is asked about": "будет запрошена",
    "it is asked about and paid again": "будет запрошена и оплачена снова",
    "free: there is no object, it is skipped": "бесплатно: объекта нет, будет пропущена",
    "Done: the post was sent again. Its new state appears here within seconds.": (
        "Готово: пост отправлен снова. Новое состояние появится здесь через несколько секунд."
    ),
    "sent again": "отправлен снова",
    "sent again by force": "отправлен снова принудительно",
}
