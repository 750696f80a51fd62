"""Texts of the commands about the installation: status, doctor, migrate, storage and others."""

from .forms import Forms

RU: dict[str, str | Forms] = {
    "{name} is set but has no effect: {reason}": "{name} задана, но не действует: {reason}",
    "{name} is set and no setting has this name; {meant} is meant?": (
        "{name} задана, но настройки с таким именем нет; имелась в виду {meant}?"
    ),
    "ok    ": "ок       ",
    "hint  ": "замечание",
    "FAILED": "ОШИБКА   ",
    "settings": "настройки",
    "`vision migrate refill` writes the results that Kafka still has once more, free and unannounced": (
        "`vision migrate refill` ещё раз запишет результаты, которые хранит Kafka: бесплатно и без объявления"
    ),
    "set the limits and pauses again (`vision budget set`, `vision pause`)": (
        "задайте лимиты и паузы снова (`vision budget set`, `vision pause`)"
    ),
    "letters dealt with are listed once more by `vision dlq ls`": (
        "решённые письма снова будут видны в `vision dlq ls`"
    ),
    "the next listing of the bucket fills it (S3_RECOUNT_INTERVAL_MINUTES)": (
        "её заполнит следующий обход бакета (S3_RECOUNT_INTERVAL_MINUTES)"
    ),
    "what was expired is no longer marked; nothing else is lost": (
        "просроченное больше не отмечено; больше ничего не потеряно"
    ),
    "{part}: NOT AS IT SHOULD BE": "{part}: НЕ ТАК, КАК ДОЛЖНО БЫТЬ",
    "Applied {names}.": "Применено: {names}.",
    "There is nothing to apply.": "Применять нечего.",
    "Wrote {written} results once more.": Forms(
        "written",
        "Ещё раз записан {written} результат.",
        "Ещё раз записаны {written} результата.",
        "Ещё раз записано {written} результатов.",
    ),
    "{refused} could not be written, the first: {reason}": Forms(
        "refused",
        "{refused} результат записать не удалось, первый: {reason}",
        "{refused} результата записать не удалось, первый: {reason}",
        "{refused} результатов записать не удалось, первый: {reason}",
    ),
    "bucket {s3_bucket} is there": "бакет {s3_bucket} на месте",
    "there is no bucket {s3_bucket}; `vision migrate repair` makes it": (
        "бакета {s3_bucket} нет; его создаст `vision migrate repair`"
    ),
    "no table of ours was ever made; `vision migrate apply` makes them, or the worker when it starts": (
        "ни одной нашей таблицы ещё не было; их создаст `vision migrate apply` или воркер при запуске"
    ),
    "{name}: applied {at:%Y-%m-%d %H:%M:%S} UTC": "{name}: применена {at:%Y-%m-%d %H:%M:%S} UTC",
    "{name} is not applied; `vision migrate apply`, or the worker when it starts": (
        "{name} не применена; применит `vision migrate apply` или воркер при запуске"
    ),
    "{one}; `vision migrate repair` puts it back": "{one}; вернёт `vision migrate repair`",
    "{one}; correct it by hand: it is never changed by us": "{one}; исправьте вручную: сами мы этого не меняем",
    "table schema_migrations is missing; `vision migrate repair` puts it back": (
        "нет таблицы schema_migrations; вернёт `vision migrate repair`"
    ),
    "all tables, columns, constraints and indexes are there": "все таблицы, столбцы, ограничения и индексы на месте",
    "topic {name} is missing; `vision migrate repair` makes it": (
        "нет топика {name}; его создаст `vision migrate repair`"
    ),
    "all topics of ours are there": "все наши топики на месте",
    "bucket {s3_bucket} was {state}": "бакет {s3_bucket}: {state}",
    "made anew, and is empty": "создан заново и пуст",
    "{name} applied": "{name} применена",
    "{role} may use the tables": "{role} может пользоваться таблицами",
    "NOT granted: run as the owner of the database: {statement}": (
        "ПРАВО НЕ ВЫДАНО: выполните от имени владельца базы: {statement}"
    ),
    "put back: {one}": "возвращено: {one}",
    "{table} is empty: {remedy}": "{table} пуста: {remedy}",
    (
        "put back for new rows only, since rows that are there break it: {name} of {table}; when they are mended: "
        "ALTER TABLE {table} VALIDATE CONSTRAINT {name}"
    ): (
        "возвращено только для новых строк, потому что имеющиеся ему противоречат: {name} таблицы {table}; когда "
        "они исправлены: ALTER TABLE {table} VALIDATE CONSTRAINT {name}"
    ),
    "put back: the record of migrations (schema_migrations)": "возвращено: учёт миграций (schema_migrations)",
    "NOT put back: {one}: {why}; mend the rows, then run this again": (
        "НЕ возвращено: {one}: {why}; исправьте строки и запустите снова"
    ),
    "nothing is missing": "всё на месте",
    "no topic is missing": "все топики на месте",
    "topics made anew, empty: {made}": "топики созданы заново и пусты: {made}",
    (
        "what was in them is gone: restart the workers (`vision down`, `vision up`), then `vision audit` tells "
        "which posts have no ending and `vision replay` sends inputs again"
    ): (
        "того, что в них было, больше нет: перезапустите воркеры (`vision down`, `vision up`), затем `vision "
        "audit` скажет, какие посты не завершены, а `vision replay` отправит входы снова"
    ),
    "{path}: note: {note}": "{path}: примечание: {note}",
    "{path}: correct": "{path}: без ошибок",
    "the event cannot be read: {fault}; give one as on the input stream": (
        "событие не читается: {fault}; дайте такое, как во входном потоке"
    ),
    "The event lists no media.": "В событии нет медиа.",
    "{media} media of {posts} recorded inputs; {changed} would change.": (
        "Медиа: {media} в записанных входах: {posts}; изменилось бы: {changed}."
    ),
    "Tokens at most: {tokens_now} now, {tokens_then} then ({change:+}).": (
        "Токенов не больше: сейчас {tokens_now}, потом {tokens_then} ({change:+})."
    ),
    "the policy cannot be used\n{fault}": "политику нельзя использовать\n{fault}",
    "analyze, prompt {prompt_key}": "анализировать, промпт {prompt_key}",
    "skip: {reason} / {policy_name}": "пропустить: {reason} / {policy_name}",
    "{number}. {mime_type}, {size_bytes} bytes, sha256 {sha256}": (
        "{number}. {mime_type}, байт: {size_bytes}, sha256 {sha256}"
    ),
    "Already up, or starting.": "Уже работает или запускается.",
    "the start goes on in the background; see `vision status`, stop it with `vision down`": (
        "запуск продолжается в фоне; посмотреть: `vision status`, остановить: `vision down`"
    ),
    "{name} is ready at {url}": "{name} готов: {url}",
    "Next: vision status, vision logs worker-1 -f, vision down": (
        "Дальше: vision status, vision logs worker-1 -f, vision down"
    ),
    "stopping {name}": "останавливаю {name}",
    "Stopped: {stopped}.": "Остановлено: {stopped}.",
    "Nothing was running.": "Ничего не работало.",
    "Nothing is running. Start it with: vision up": "Ничего не работает. Запустить: vision up",
    "Its services: `vision doctor`; its process: `docker compose ps`, or where it was started.": (
        "Его сервисы: `vision doctor`; его процесс: `docker compose ps` или там, где его запустили."
    ),
    (
        "the worker here was not started by `vision up`, so its log is its standard output: `docker compose logs "
        "worker` where Docker Compose runs it, else the terminal or unit that started it"
    ): (
        "этот воркер запустил не `vision up`, поэтому его лог — его стандартный вывод: `docker compose logs "
        "worker`, если его запускает Docker Compose, иначе терминал или юнит, который его запустил"
    ),
    "none yet; `vision up` makes them": "пока нет; они появятся после `vision up`",
    "there is no log of {service}; there are: {known}": "лога {service} нет; есть: {known}",
    "{wrong!r} is no worker's number: vision worker {action} 2": (
        "{wrong!r} — не номер воркера: vision worker {action} 2"
    ),
    "Stopped": "Остановлено",
    "Ready": "Готово",
    "Restarted and ready": "Перезапущено и готово",
    "ready": "готов",
    "external": "внешний",
    "starting": "запускается",
    "backoff": "ждёт перезапуска",
    "not answering": "не отвечает",
    "stopped": "остановлен",
    "SERVICE": "СЕРВИС",
    "STATE": "СОСТОЯНИЕ",
    "WHERE": "ГДЕ",
    "RESTARTS": "ПЕРЕЗАПУСКИ",
    "UPTIME": "РАБОТАЕТ",
    "RSS MB": "RSS, МБ",
    "LAST ERROR": "ПОСЛЕДНЯЯ ОШИБКА",
    "Memory: {total:.0f} MB resident in all, the supervisor included": (
        "Память: всего {total:.0f} МБ (RSS), вместе с супервизором"
    ),
    "gone": "процесса нет",
    "This was so {age:.0f} s ago: the supervisor (pid {pid}) is frozen, or it cannot write {path}. Free disk space "
    "there, or see `vision logs supervisor`; `vision doctor` asks each service itself": (
        "Так было {age:.0f} с назад: супервизор (pid {pid}) завис или не может записать {path}. Освободите там место "
        "на диске или посмотрите `vision logs supervisor`; `vision doctor` сам спрашивает каждый сервис"
    ),
    "not configured": "не настроен",
    "{condition} at {url}{after}": "{condition}, адрес {url}{after}",
    "failed: {last_error}; {detail}": "сбой: {last_error}; {detail}",
    " after {took:.0f} s": " (через {took:.0f} с)",
    "{minutes} min": "{minutes} мин",
    "{hours} h {minutes} min": "{hours} ч {minutes} мин",
    "bucket": "бакет",
    "{whose}: {total} of {limit:g} GB ({usage_percent} %), {objects} objects": (
        "{whose}: {total} из {limit:g} GB ({usage_percent} %), объектов: {objects}"
    ),
    "counted: {counted_at}": "посчитано: {counted_at}",
    "bucket: {total_gb} of {limit_gb:g} GB ({usage_percent} %)": (
        "бакет: {total_gb} из {limit_gb:g} GB ({usage_percent} %)"
    ),
    (
        "clean-up: above {emergency_threshold_gb:g} GB down to {cleanup_target_gb:g} GB; a tenant may hold "
        "{per_tenant_max_gb:g} GB"
    ): (
        "очистка: выше {emergency_threshold_gb:g} GB, до {cleanup_target_gb:g} GB; тенанту можно "
        "{per_tenant_max_gb:g} GB"
    ),
    "{name} {days:g} days": "{name}: дней {days:g}",
    "kept: {kept}": "хранится: {kept}",
    "; one is due": "; пора чистить",
    "counted: {counted_at}; cleaned up: {cleaned_at}{due}": "посчитано: {counted_at}; очищено: {cleaned_at}{due}",
    "GB": "GB",
    "OBJECTS": "ОБЪЕКТЫ",
    "KEY": "КЛЮЧ",
    "TYPE": "ТИП",
    "BYTES": "БАЙТЫ",
    "MODIFIED (UTC)": "ИЗМЕНЁН (UTC)",
    "there may be more than these {limit}: --limit, --tenant, --type": (
        "может быть больше, чем эти {limit}: --limit, --tenant, --type"
    ),
    "the whole bucket has {s3_total_limit_gb:g} GB": "во всём бакете {s3_total_limit_gb:g} GB",
    "listed {listed} objects; would delete {count} ({size} GB) in {seconds:.1f} s": (
        "просмотрено объектов: {listed}; было бы удалено: {count} ({size} GB) за {seconds:.1f} с"
    ),
    "listed {listed} objects; deleted {count} ({size} GB) in {seconds:.1f} s": (
        "просмотрено объектов: {listed}; удалено: {count} ({size} GB) за {seconds:.1f} с"
    ),
    "{why} {size} GB": "{why} {size} GB",
    "protected: {kept}": "защищено: {kept}",
    (
        "the target is missed by {shortfall_bytes} GB: what is left is protected or too young; raise "
        "S3_TOTAL_LIMIT_GB, or see docs/storage.md"
    ): (
        "до цели не хватает {shortfall_bytes} GB: остальное защищено или слишком новое; поднимите "
        "S3_TOTAL_LIMIT_GB или см. docs/storage.md"
    ),
    "  {name}: {size}{limit} GB": "  {name}: {size}{limit} GB",
    " of {limit:g}": " из {limit:g}",
    "never": "никогда",
    "VARIABLE": "ПЕРЕМЕННАЯ",
    "FROM": "ОТКУДА",
    "rule": "правило",
    "says": "что говорит",
    "ok": "да",
}
