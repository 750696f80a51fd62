"""Texts of the commands about posts, dead letters and inputs."""

from .forms import Forms

RU: dict[str, str | Forms] = {
    "Tenant": "Тенант",
    "Post": "Пост",
    "Status": "Статус",
    "Analyzed At": "Проанализирован",
    "Provider": "Провайдер",
    "Model": "Модель",
    "Tokens Used": "Потрачено токенов",
    "Is Meme": "Мем",
    "Has Classification": "Есть классификация",
    "Has Description": "Есть описание",
    "Has OCR": "Есть OCR",
    "S3 Keys Count": "Ключей S3",
    "Trace ID": "Trace ID",
    "Error": "Ошибка",
    "Waits For": "Ждёт",
    "Dead Letter": "Письмо (dead letter)",
    "Next": "Дальше",
    "File": "Файл",
    "Size": "Размер",
    "MIME": "MIME",
    "SHA256": "SHA256",
    "S3 Key": "Ключ S3",
    "Allowed": "Разрешён",
    "Reason": "Причина",
    "Routing": "Куда",
    "Tokens At Most": "Токенов не больше",
    "say what: --post-id ID, stats, or test --media-file FILE": (
        "укажите, что показать: --post-id ID, stats или test --media-file FILE"
    ),
    "WHAT": "ЧТО",
    "COUNT": "СКОЛЬКО",
    "{name} length": "{name}: длина",
    " (the oldest idle for {oldest_idle_seconds:.0f} s)": " (самая старая без движения {oldest_idle_seconds:.0f} с)",
    "{name} pending": "{name}: в обработке",
    "{name} not read yet": "{name}: ещё не прочитано",
    "{objects} objects, {bytes} bytes, {gb} GB": "объектов: {objects}, байт: {bytes}, {gb} GB",
    "No vision result for post {post_id}. It may be on its way: vision trace {post_id}": (
        "Для поста {post_id} нет результата. Возможно, он в пути: vision trace {post_id}"
    ),
    "Classification: {classification}": "Классификация: {classification}",
    "Description: {description}": "Описание: {description}",
    "Medium {sha256}: {status}{reason}, {key}": "Медиа {sha256}: {status}{reason}, {key}",
    "the policy cannot be used: {fault}; `vision policy check` says where": (
        "политику нельзя использовать: {fault}; где ошибка, скажет `vision policy check`"
    ),
    "GigaChat, prompt {prompt_key}{fallback}": "GigaChat, промпт {prompt_key}{fallback}",
    ", OCR as fallback": ", запасной путь — OCR",
    "FIELD": "ПОЛЕ",
    "VALUE": "ЗНАЧЕНИЕ",
    "No dead letters.": "Dead letters нет.",
    "No dead letters that wait for a decision (--all: every one).": (
        "Нет dead letters, ждущих решения (--all: показать все)."
    ),
    " ({count} older ones not shown; --limit)": " (старых не показано: {count}; --limit)",
    "{count} letters{more}. Next: vision dlq show ID, vision dlq replay --id ID --dry-run": Forms(
        "count",
        "{count} письмо{more}. Дальше: vision dlq show ID, vision dlq replay --id ID --dry-run",
        "{count} письма{more}. Дальше: vision dlq show ID, vision dlq replay --id ID --dry-run",
        "{count} писем{more}. Дальше: vision dlq show ID, vision dlq replay --id ID --dry-run",
    ),
    "value:\n{pretty}": "содержимое:\n{pretty}",
    "Would replay {sent} of {count} letters; {cost}.": Forms(
        "count",
        "Было бы отправлено снова {sent} из {count} письма; {cost}.",
        "Было бы отправлено снова {sent} из {count} писем; {cost}.",
        "Было бы отправлено снова {sent} из {count} писем; {cost}.",
    ),
    "Replayed {sent} of {count} letters; {cost}.": Forms(
        "count",
        "Отправлено снова {sent} из {count} письма; {cost}.",
        "Отправлено снова {sent} из {count} писем; {cost}.",
        "Отправлено снова {sent} из {count} писем; {cost}.",
    ),
    "Would discard {count} letters.": Forms(
        "count",
        "Было бы списано {count} письмо.",
        "Было бы списано {count} письма.",
        "Было бы списано {count} писем.",
    ),
    "Discarded {count} letters.": Forms(
        "count",
        "Списано {count} письмо.",
        "Списано {count} письма.",
        "Списано {count} писем.",
    ),
    "All letters are shown, also those dealt with already: {fault}": (
        "Показаны все письма, в том числе уже решённые: {fault}"
    ),
    "say which letters: --id, --origin, --error, --since, --tenant, or --every": (
        "укажите, какие письма: --id, --origin, --error, --since, --tenant или --every"
    ),
    "no such letter waits: {missing}; `vision dlq ls --all` lists every one": (
        "такое письмо не ждёт решения: {missing}; все письма: `vision dlq ls --all`"
    ),
    "there is no letter {letter_id}; `vision dlq ls --all` lists every one": (
        "письма {letter_id} нет; все письма: `vision dlq ls --all`"
    ),
    "ID": "ID",
    "AT (UTC)": "КОГДА (UTC)",
    "POST": "ПОСТ",
    "ERROR": "ОШИБКА",
    "TRIES": "ПОПЫТКИ",
    "REASON": "ПРИЧИНА",
    " +{replays} replays": Forms(
        "replays",
        " +{replays} повтор",
        " +{replays} повтора",
        " +{replays} повторов",
    ),
    " of post {post_id} of {tenant_id}": " поста {post_id} тенанта {tenant_id}",
    "held by {holder}": "у кого: {holder}",
    "{records_behind} records of its partition come after it": Forms(
        "records_behind",
        "за ней в разделе {records_behind} запись",
        "за ней в разделе {records_behind} записи",
        "за ней в разделе {records_behind} записей",
    ),
    "would follow: {consequence}": "последствие было бы: {consequence}",
    "follows: {consequence}": "последствие: {consequence}",
    "Would set it aside: the same command without --dry-run.": "Запись была бы отложена: та же команда без --dry-run.",
    "Set aside. Next: vision dlq show {place}": "Отложена. Дальше: vision dlq show {place}",
    (
        "Marked, and not set aside yet: it is as soon as a worker gets it. If a worker holds it and does not let "
        "go, restart that worker; `vision status` shows what runs."
    ): (
        "Помечена, но ещё не отложена: это произойдёт, как только её получит воркер. Если воркер держит её и не "
        "отпускает, перезапустите этот воркер; что работает, показывает `vision status`."
    ),
    "{id}: not replayed: {refused}": "{id}: не отправлено снова: {refused}",
    " as the whole post": " как пост целиком",
    " (warning: {warning})": " (предупреждение: {warning})",
    "say which posts: --stuck; for one post `vision diag --post-id` and `vision trace`": (
        "укажите, какие посты: --stuck; об одном посте — `vision diag --post-id` и `vision trace`"
    ),
    "No post has been in work for longer than {older_than}.": "Нет постов, которые в работе дольше {older_than}.",
    (
        "Next: vision trace POST shows where one stopped. What waits goes on by itself when its cause has gone, "
        "also after an outage of the provider. For posts that wait for nothing: vision replay --post POST"
    ): (
        "Дальше: где пост остановился, покажет vision trace POST. Ждущие посты продолжатся сами, когда исчезнет "
        "причина, в том числе после недоступности провайдера. Если пост не ждёт ничего: vision replay --post POST"
    ),
    "SINCE (UTC)": "С КАКИХ ПОР (UTC)",
    "FOR": "СКОЛЬКО",
    "WAITS FOR": "ЖДЁТ",
    "Published {count} posts to {stream}: {by_kind}. Next: vision trace {post_id}": Forms(
        "count",
        "Опубликован {count} пост в {stream}: {by_kind}. Дальше: vision trace {post_id}",
        "Опубликовано {count} поста в {stream}: {by_kind}. Дальше: vision trace {post_id}",
        "Опубликовано {count} постов в {stream}: {by_kind}. Дальше: vision trace {post_id}",
    ),
    "… and {more} more": "… и ещё {more}",
    "{unreadable} cannot be read; see `vision dlq ls --error Unreadable`.": (
        "Не читаются: {unreadable}; см. `vision dlq ls --error Unreadable`."
    ),
    "Would send {count} inputs of {posts} posts; {cost}.": Forms(
        "count",
        "Был бы отправлен {count} вход (постов: {posts}); {cost}.",
        "Было бы отправлено {count} входа (постов: {posts}); {cost}.",
        "Было бы отправлено {count} входов (постов: {posts}); {cost}.",
    ),
    "Sent {count} inputs of {posts} posts; {cost}.": Forms(
        "count",
        "Отправлен {count} вход (постов: {posts}); {cost}.",
        "Отправлено {count} входа (постов: {posts}); {cost}.",
        "Отправлено {count} входов (постов: {posts}); {cost}.",
    ),
    "--offsets says it all; leave out --since, --until and --provider": (
        "--offsets уже говорит всё; уберите --since, --until и --provider"
    ),
    "say which inputs: --since, --offsets, --provider or --post": (
        "укажите, какие входы: --since, --offsets, --provider или --post"
    ),
    "{value!r} is no duration; give a number and s, m, h or d, for example 5m; at most {days}d": (
        "{value!r} — не длительность; нужны число и s, m, h или d, например 5m; не больше {days}d"
    ),
    "{value!r} is no time; give 2h (ago) or 2026-11-22T18:00": (
        "{value!r} — не время; нужно 2h (назад) или 2026-11-22T18:00"
    ),
    "not in the years 1 to 9999 ({at_ms} ms)": "не в годах с 1 по 9999 ({at_ms} мс)",
    "Post {post_id} of {tenant_id}, trace {trace_id}: {status}": (
        "Пост {post_id} тенанта {tenant_id}, трасса {trace_id}: {status}"
    ),
    "TIME (UTC)": "ВРЕМЯ (UTC)",
    "+MS": "+МС",
    "PLACE": "МЕСТО",
    "medium {sha256} {status}{why}": "медиа {sha256} {status}{why}",
    "Not everything was read: too many records; narrow it with --tenant or --since.": (
        "Прочитано не всё: слишком много записей; сузьте поиск с --tenant или --since."
    ),
    "Dead letter {letter} waits for a decision: vision dlq show {letter}": (
        "Dead letter {letter} ждёт решения: vision dlq show {letter}"
    ),
    "Stopped: {stopped}": "Остановился: {stopped}",
    "It ended among the dead letters: vision dlq replay tries again, vision dlq discard ends it.": (
        "Пост закончил в dead letters: попробовать снова — vision dlq replay, завершить — vision dlq discard."
    ),
    "It came to its end.": "Пост дошёл до конца.",
    "no row": "строки нет",
    "dead letter": "dead letter",
    "Its spans at the collector of traces have the trace id {id}.": "Его спаны у коллектора трасс: trace id {id}.",
}
