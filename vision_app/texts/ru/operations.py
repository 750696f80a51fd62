"""What the operations find: letters, traces, budgets, health."""

from .forms import Forms

RU: dict[str, str | Forms] = {
    "{url}{path} does not answer; see `vision status` and `vision logs worker-1`": (
        "{url}{path} не отвечает; см. `vision status` и `vision logs worker-1`"
    ),
    "{stream}: {count} unread": "{stream}: не прочитано {count}",
    "{stream}: {count} pending": "{stream}: в обработке {count}",
    "{topic}: {count} waiting": "{topic}: ждут {count}",
    "{reason}; `vision status` shows what runs, `vision doctor` looks for the cause": (
        "{reason}; что работает, показывает `vision status`, причину ищет `vision doctor`"
    ),
    (
        "at most {tokens_at_most} tokens: {asked} media to be asked about, {cached} with an answer already (free), "
        "{gone} without an object (skipped, free)"
    ): (
        "токенов не больше {tokens_at_most}: спросить о медиа: {asked}, ответ уже есть (бесплатно): {cached}, нет "
        "объекта (пропуск, бесплатно): {gone}"
    ),
    "vision dlq show {id}, then vision dlq replay or discard": (
        "vision dlq show {id}, затем vision dlq replay или discard"
    ),
    "dead letters": "dead letters",
    " (and {others_count} more)": " (и ещё {others_count})",
    "{first}{more}; running workers keep the previous policy, a new one does not start": (
        "{first}{more}; работающие воркеры сохраняют прежнюю политику, новый не запустится"
    ),
    "policy": "политика",
    "{text}; correct it, then: vision policy check {where}": "{text}; исправьте, затем: vision policy check {where}",
    "{where} can be used": "{where} можно использовать",
    "{used:.2f} of {limit:g} GB used ({percent:.0f} %)": "занято {used:.2f} из {limit:g} GB ({percent:.0f} %)",
    "`vision storage cleanup --dry-run` says what can go, S3_TOTAL_LIMIT_GB is the limit": (
        "что можно убрать, скажет `vision storage cleanup --dry-run`, лимит — S3_TOTAL_LIMIT_GB"
    ),
    "{text}, uploads are refused; {remedy}": "{text}, загрузка отклоняется; {remedy}",
    "above S3_EMERGENCY_THRESHOLD_GB ({threshold:g}), so clean-ups run": (
        "выше S3_EMERGENCY_THRESHOLD_GB ({threshold:g}), поэтому идёт очистка"
    ),
    "{kind}/ holds {used:.2f} of {limit:g} GB (S3_{variable}_MAX_GB)": (
        "{kind}/ занимает {used:.2f} из {limit:g} GB (S3_{variable}_MAX_GB)"
    ),
    "none waits for a decision": "ждущих решения нет",
    "{count} wait for a decision; `vision dlq ls` shows them, `vision dlq replay` and `discard` decide": Forms(
        "count",
        "{count} ждёт решения; посмотреть — `vision dlq ls`, решить — `vision dlq replay` или `discard`",
        "{count} ждут решения; посмотреть — `vision dlq ls`, решить — `vision dlq replay` или `discard`",
        "{count} ждут решения; посмотреть — `vision dlq ls`, решить — `vision dlq replay` или `discard`",
    ),
    "could not be seen within {probe_seconds:.0f} s": "не удалось посмотреть за {probe_seconds:.0f} с",
    "not known: a worker makes the tables when it starts": "неизвестно: таблицы создаст воркер при запуске",
    "could not be seen: {cause}": "не удалось посмотреть: {cause}",
    "{text}; the services' findings say what is wrong": "{text}; что не так, сказано у сервисов",
    "the charge of {tenant_id}'s grant {grant_id}": "списание по гранту {grant_id} тенанта {tenant_id}",
    "{stage} at {place} has stood still since {since}Z: {reason}": "{stage} в {place} стоит с {since}Z: {reason}",
    "{stall}. Next: {remedy}": "{stall}. Дальше: {remedy}",
    "not ready: {reason}": "не готов: {reason}",
    "ready; it waits for {waiting}": "готов; ждёт: {waiting}",
    "ready, and nothing stands still": "готов, ничего не стоит",
    "{detail}; {count} processes: {names}": "{detail}; процессов: {count}: {names}",
    "this process of the worker (VISION_WORKERS) is broken: {reason}; started again so far: {restarts}. "
    "The worker's log has its last lines": (
        "этот процесс воркера (VISION_WORKERS) не в порядке: {reason}; перезапущен раз: {restarts}. "
        "Последние его строки в логе воркера"
    ),
    "the one at {url}, which `vision up` did not start here, is {detail}": (
        "воркер по адресу {url}, запущенный здесь не через `vision up`: {detail}"
    ),
    "does not answer at {where}; `vision logs {name}`, `vision worker restart` starts it again": (
        "не отвечает по адресу {where}; см. `vision logs {name}`, перезапустить — `vision worker restart`"
    ),
    (
        "none answers at {where}, but {hosts_count} are connected to Kafka, from {hosts}: run `vision doctor` "
        "there, or set VISION_API_HOST, VISION_API_PORT, METRICS_HOST and METRICS_PORT as there"
    ): Forms(
        "hosts_count",
        "по адресу {where} никто не отвечает, но к Kafka подключён {hosts_count}, с машин {hosts}: запустите "
        "`vision doctor` там или задайте VISION_API_HOST, VISION_API_PORT, METRICS_HOST и METRICS_PORT как там",
        "по адресу {where} никто не отвечает, но к Kafka подключены {hosts_count}, с машин {hosts}: запустите "
        "`vision doctor` там или задайте VISION_API_HOST, VISION_API_PORT, METRICS_HOST и METRICS_PORT как там",
        "по адресу {where} никто не отвечает, но к Kafka подключено {hosts_count}, с машин {hosts}: запустите "
        "`vision doctor` там или задайте VISION_API_HOST, VISION_API_PORT, METRICS_HOST и METRICS_PORT как там",
    ),
    "and none is connected to Kafka": "и ни один не подключён к Kafka",
    "and Kafka does not tell whether one runs elsewhere": "и Kafka не говорит, работает ли он где-то ещё",
    "no worker answers at {where}, {known}: no post is analyzed; `vision up` starts one, or `vision worker` here": (
        "по адресу {where} воркер не отвечает, {known}: посты не анализируются; запустить — `vision up` или "
        "`vision worker` здесь"
    ),
    "stopped by `vision worker stop`; `vision worker start` starts it": (
        "остановлен командой `vision worker stop`; запустить — `vision worker start`"
    ),
    "starting: {detail}": "запускается: {detail}",
    "its process": "его процесс",
    "not finished by a worker yet: {behind} records before it": Forms(
        "behind",
        "воркер ещё не обработал: перед ней {behind} запись",
        "воркер ещё не обработал: перед ней {behind} записи",
        "воркер ещё не обработал: перед ней {behind} записей",
    ),
    ", replayed from {origin}": ", отправлено снова из {origin}",
    "opened, {verdicts_count} media": "открыт, медиа: {verdicts_count}",
    ", by force": ", принудительно",
    "picture {sha256}, dispatch {dispatch}": "картинка {sha256}, отправка {dispatch}",
    "{kind}: {estimate} tokens for picture {sha256}": "{kind}: токенов {estimate} на картинку {sha256}",
    "grant {id}: {estimate} tokens, {provider}, picture {picture}": (
        "грант {id}: токенов {estimate}, {provider}, картинка {picture}"
    ),
    "settle {grant_id}: {tokens} tokens": "расчёт {grant_id}: токенов {tokens}",
    "release {grant_id}: nothing spent": "возврат {grant_id}: ничего не потрачено",
    ", from the cache": ", из кэша",
    "picture {sha256} {kind}: {how}{cached}": "картинка {sha256} {kind}: {how}{cached}",
    "result {status}, emission {time_ms}-{offset}": "результат {status}, выпуск {time_ms}-{offset}",
    "dead letter {id}: {error}: {reason}": "dead letter {id}: {error}: {reason}",
    "no worker has ever read this stream; is one running? see `vision status`": (
        "этот поток не читал ни один воркер; он работает? см. `vision status`"
    ),
    "{times_delivered} time(s), last {idle:.0f} s ago to {consumer}": Forms(
        "times_delivered",
        "{times_delivered} раз, последний {idle:.0f} с назад воркеру {consumer}",
        "{times_delivered} раза, последний {idle:.0f} с назад воркеру {consumer}",
        "{times_delivered} раз, последний {idle:.0f} с назад воркеру {consumer}",
    ),
    "delivered {times}, not acknowledged": "выдано {times}, не подтверждено",
    "not read by a worker yet; is one running? see `vision status`": (
        "воркер ещё не читал; он работает? см. `vision status`"
    ),
    "dead letter: {error}": "dead letter: {error}",
    "{kind}, trace {trace_id}": "{kind}, трасса {trace_id}",
    "{text!r} is no stretch of offsets; give partition:first-last, for example 3:100-200": (
        "{text!r} — не диапазон смещений; нужно раздел:первое-последнее, например 3:100-200"
    ),
    "{text!r} ends before it begins; give partition:first-last, for example 3:100-200": (
        "{text!r} кончается раньше, чем начинается; нужно раздел:первое-последнее, например 3:100-200"
    ),
    "{name} has no partition {partition}": "в {name} нет раздела {partition}",
    "no records from {topics}": "нет записей из {topics}",
    (
        "Kafka at {kafka_bootstrap_servers} did not answer within {connect_seconds:.0f} s; check "
        "KAFKA_BOOTSTRAP_SERVERS, and whether the broker is frozen or overloaded"
    ): (
        "Kafka по адресу {kafka_bootstrap_servers} не ответила за {connect_seconds:.0f} с; проверьте "
        "KAFKA_BOOTSTRAP_SERVERS и не завис ли или не перегружен ли брокер"
    ),
    "{text!r} is no place in Kafka; give it as topic-partition-offset": (
        "{text!r} — не место в Kafka; нужно топик-раздел-смещение"
    ),
    "its like was replayed {times} time(s) before and came back": Forms(
        "times",
        "такое же уже отправлялось снова {times} раз и вернулось",
        "такое же уже отправлялось снова {times} раза и вернулось",
        "такое же уже отправлялось снова {times} раз и вернулось",
    ),
    "replayed {replays} times already and came back; look at it with `vision dlq show`, then": Forms(
        "replays",
        "уже отправлялось снова {replays} раз и вернулось; посмотрите `vision dlq show`, затем",
        "уже отправлялось снова {replays} раза и вернулось; посмотрите `vision dlq show`, затем",
        "уже отправлялось снова {replays} раз и вернулось; посмотрите `vision dlq show`, затем",
    ),
    "{why} `--again` tries once more and `vision dlq discard` ends it": (
        "{why} `--again` попробует ещё раз, а `vision dlq discard` завершит"
    ),
    "its post is closed and has no row; use `vision replay --since … --until …` instead": (
        "его пост закрыт, и строки у него нет; вместо этого: `vision replay --since … --until …`"
    ),
    "its origin": "месте происхождения",
    "its value was too large to be kept; read the whole at {where}, or discard it": (
        "его содержимое слишком велико, чтобы хранить; прочитайте целиком в {where} или спишите"
    ),
    "a command of an operator; others may have followed: give it again if need be, and discard it": (
        "это команда оператора, после неё могли быть другие: при необходимости дайте её снова, а письмо спишите"
    ),
    "nothing in it could be sent to {origin} again; discard it": (
        "ничего из него нельзя снова отправить в {origin}; спишите его"
    ),
    "the entry was trimmed from its stream before it could be kept; discard it": (
        "запись обрезана из потока раньше, чем её сохранили; спишите письмо"
    ),
    "its post is not named and no longer held open; use `vision replay --since … --until …`": (
        "его пост не назван и больше не открыт; используйте `vision replay --since … --until …`"
    ),
    "its post is not opened; `vision dlq replay` tries it again": (
        "его пост не открывается; попробовать снова — `vision dlq replay`"
    ),
    "the post does not learn of it and stays as it is; `vision dlq replay` tries it again": (
        "пост об этом не узнает и остаётся как есть; попробовать снова — `vision dlq replay`"
    ),
    "the picture ends as failed and its post goes on; `vision dlq replay` tries it again": (
        "картинка завершится с ошибкой, её пост продолжится; попробовать снова — `vision dlq replay`"
    ),
    "the ledger does not learn of it; `vision dlq replay` tries it again": (
        "учёт об этом не узнает; попробовать снова — `vision dlq replay`"
    ),
    (
        "the picture ends as failed and its post goes on; its grant is closed: charged at its estimate if its call "
        "was begun, else released; `vision dlq replay` tries it again under a new grant"
    ): (
        "картинка завершится с ошибкой, её пост продолжится; её грант закроется: списан по оценке, если вызов был "
        "начат, иначе возвращён; `vision dlq replay` попробует снова с новым грантом"
    ),
    "the row is not written by it and the post is not announced; `vision dlq replay` tries it again": (
        "строка по ней не пишется, и пост не объявляется; попробовать снова — `vision dlq replay`"
    ),
    "the post's document is not written by it; `vision dlq replay` tries it again": (
        "документ поста по ней не пишется; попробовать снова — `vision dlq replay`"
    ),
    "the post is not in the graph by it; `vision dlq replay` tries it again": (
        "пост по ней не попадёт в граф; попробовать снова — `vision dlq replay`"
    ),
    "the post is not announced on the Redis stream; `vision dlq replay` tries it again": (
        "пост не объявляется в потоке Redis; попробовать снова — `vision dlq replay`"
    ),
    (
        "the picture ends as failed and its post goes on; its grant stays open for a day; `vision dlq replay` "
        "tries it again"
    ): (
        "картинка завершится с ошибкой, её пост продолжится; её грант останется открытым на день; попробовать "
        "снова — `vision dlq replay`"
    ),
    "its grant stays open, and counts as lost after a day; `vision dlq replay` tries it again": (
        "её грант останется открытым и через день будет считаться потерянным; попробовать снова — `vision dlq replay`"
    ),
    "{fault}; GET /readyz and `vision doctor` name the place of a stall": (
        "{fault}; место остановки называют GET /readyz и `vision doctor`"
    ),
    "no worker reads {topic}; records of these can be set aside: {read}": (
        "{topic} не читает ни один воркер; отложить можно записи из: {read}"
    ),
    "there is no record at {place}: it was never there, or retention has taken it": (
        "записи {place} нет: её не было или истёк срок хранения"
    ),
    "{place} is acknowledged: it holds nothing up; see `vision trace {place}`": (
        "{place} подтверждена и ничего не задерживает; см. `vision trace {place}`"
    ),
    "{topic} is no input stream; they are {input_streams}": "{topic} — не входной поток; входные: {input_streams}",
    "there is no entry {offset} in {topic}: never there, or trimmed": (
        "записи {offset} в {topic} нет: её не было или она обрезана"
    ),
    "{place} is acknowledged: it holds nothing up; see `vision trace {offset}`": (
        "{place} подтверждена и ничего не задерживает; см. `vision trace {offset}`"
    ),
    "it is not relayed; `vision dlq replay` tries it again": (
        "она не переносится в Kafka; попробовать снова — `vision dlq replay`"
    ),
    "{name}: {stage} since {since}Z; {reason}": "{name}: {stage} с {since}Z; {reason}",
    "nothing known": "ничего известного",
    "{name}: {stage} since {since}Z, waiting for {waits}": "{name}: {stage} с {since}Z, ждёт: {waits}",
    "no worker answers: it is set aside as soon as one is started": (
        "ни один воркер не отвечает: запись будет отложена, как только он запустится"
    ),
    "no worker says that it is its oldest work: it is set aside when its turn comes": (
        "ни один воркер не называет её своей самой старой работой: она будет отложена, когда до неё дойдёт очередь"
    ),
    "not readable": "не читается",
    (
        "nothing is known of {text!r}: no row, and nothing on the streams and topics in the time searched; look "
        "further back with --since 7d, and see `vision dlq ls` for what could not be read"
    ): (
        "о {text!r} ничего не известно: нет строки и ничего в потоках и топиках за просмотренное время; посмотрите "
        "дальше назад с --since 7d, а непрочитанное — в `vision dlq ls`"
    ),
    "in {where} at {place}: {waits}": "в {where}, место {place}: {waits}",
    "{where}; it waits for {more}": "{where}; ждёт: {more}",
    "it waits for {more}": "ждёт: {more}",
    "nothing is under way; `vision replay --post` sends its input again": (
        "по нему ничего не делается; `vision replay --post` отправит его вход снова"
    ),
    "relayed and worked off, but there is no row; see the dead letters with `vision dlq ls`": (
        "перенесён и отработан, но строки нет; см. dead letters: `vision dlq ls`"
    ),
    "it waits for {forgotten}": "ждёт: {forgotten}",
    (
        "nothing: it was deferred, but its tenant's ledger does not know of it (was it lost?); the worker asks "
        "about it again within some minutes, `vision replay --post` does so at once"
    ): (
        "ничего: пост отложен, но учёт его тенанта о нём не знает (учёт потерян?); воркер спросит о нём снова "
        "через несколько минут, сразу — `vision replay --post`"
    ),
    "nothing that is known: the worker no longer holds it open; replay its input": (
        "ничего известного: воркер больше не держит его открытым; отправьте его вход снова"
    ),
    "a worker: none answers at {url}; see `vision status`": (
        "воркер: по адресу {url} никто не отвечает; см. `vision status`"
    ),
    "sent out {seconds:.0f} s ago": "отправлено {seconds:.0f} с назад",
    "{media_count} of {listed_count} media, {since}: {why}": "медиа: {media_count} из {listed_count}, {since}: {why}",
    "deferred, and the tenant is paused; `vision resume {whose}` lets it go on": (
        "отложен, и тенант на паузе; продолжить — `vision resume {whose}`"
    ),
    " ({spent} of {limit} tokens were spent, this picture may cost {estimated_tokens})": (
        " (было потрачено {spent} из {limit} токенов, эта картинка может стоить {estimated_tokens})"
    ),
    "the next UTC day": "следующего дня UTC",
    (
        "deferred until {until} by the daily budget of tenant {tenant_id}{figures}; then it goes on by itself. At "
        "once: `vision budget set LIMIT {whose}` raises the limit, `vision budget reset {whose}` sets what was "
        "spent to zero; `vision budget show {whose}` shows both"
    ): (
        "отложен до {until} дневным бюджетом тенанта {tenant_id}{figures}; затем продолжится сам. Сразу: `vision "
        "budget set LIMIT {whose}` поднимет лимит, `vision budget reset {whose}` обнулит потраченное; посмотреть "
        "то и другое — `vision budget show {whose}`"
    ),
    "{reason}, until {reset_at}": "{reason}, до {reset_at}",
    "preflight; or its ledger was lost: the worker asks about it again within some minutes": (
        "предварительной проверки; или учёт потерян: воркер спросит о посте снова через несколько минут"
    ),
    "the tenant is paused; `vision resume {whose}` lets it go on": (
        "тенант на паузе; продолжить — `vision resume {whose}`"
    ),
    "Postgres, which must tell what the tenant has spent today; see `vision doctor`": (
        "Postgres, который должен сказать, сколько тенант потратил сегодня; см. `vision doctor`"
    ),
    "{grants} call(s) of the tenant are granted and not settled: GigaChat, or its gate after an outage": Forms(
        "grants",
        "{grants} вызов тенанта выдан и не рассчитан: GigaChat или его затвор после недоступности",
        "{grants} вызова тенанта выданы и не рассчитаны: GigaChat или его затвор после недоступности",
        "{grants} вызовов тенанта выданы и не рассчитаны: GigaChat или его затвор после недоступности",
    ),
    "{spent} of {limit} tokens spent, {reserved} reserved": (
        "потрачено {spent} из {limit} токенов, в резерве {reserved}"
    ),
    "the budget has {waiting} waiting tasks of the tenant ({spent}; next day {reset_at})": Forms(
        "waiting",
        "в бюджете ждёт {waiting} задача тенанта ({spent}; следующий день {reset_at})",
        "в бюджете ждут {waiting} задачи тенанта ({spent}; следующий день {reset_at})",
        "в бюджете ждут {waiting} задач тенанта ({spent}; следующий день {reset_at})",
    ),
    "{endpoint} does not answer: {cause}; posts go on, and spans are dropped. Start the collector, or correct "
    "OTEL_EXPORTER_OTLP_ENDPOINT": (
        "{endpoint} не отвечает: {cause}; посты продолжаются, спаны теряются. Запустите коллектор или исправьте "
        "OTEL_EXPORTER_OTLP_ENDPOINT"
    ),
    "{endpoint} refuses us with {status}; posts go on, and spans are dropped. Correct OTEL_EXPORTER_OTLP_HEADERS": (
        "{endpoint} отказывает: {status}; посты продолжаются, спаны теряются. Исправьте OTEL_EXPORTER_OTLP_HEADERS"
    ),
    "{endpoint} answers {status} to a request without spans; posts go on, and spans are dropped. "
    "OTEL_EXPORTER_OTLP_ENDPOINT names the OTLP port for HTTP, usually 4318": (
        "{endpoint} отвечает {status} на запрос без спанов; посты продолжаются, спаны теряются. "
        "OTEL_EXPORTER_OTLP_ENDPOINT называет порт OTLP для HTTP, обычно 4318"
    ),
    "{endpoint} takes spans": "{endpoint} принимает спаны",
    "traces": "трассы",
    "OTEL_EXPORTER_OTLP_ENDPOINT is set, and the packages for traces are not installed; install the extra `otel` "
    "(pip install 'vision-app[otel]', or requirements-otel.lock), or remove the variable": (
        "OTEL_EXPORTER_OTLP_ENDPOINT задана, а пакеты для трасс не установлены; установите дополнение `otel` "
        "(pip install 'vision-app[otel]' или requirements-otel.lock) или уберите переменную"
    ),
    "Kafka: {text}; check KAFKA_BOOTSTRAP_SERVERS, and that the broker runs": (
        "Kafka: {text}; проверьте KAFKA_BOOTSTRAP_SERVERS и что брокер работает"
    ),
    "S3: {text}; check S3_ENDPOINT_URL, and that it runs": ("S3: {text}; проверьте S3_ENDPOINT_URL и что он работает"),
    "S3: no answer in time; check S3_ENDPOINT_URL, the network and that it runs": (
        "S3: нет ответа вовремя; проверьте S3_ENDPOINT_URL, сеть и что он работает"
    ),
    "not looked at: a service that holds them does not run or answer; its own finding says why": (
        "не проверено: сервис, который их хранит, не работает или не отвечает; почему — сказано о нём отдельно"
    ),
    "it has no field data": "в ней нет поля data",
    "its data is no JSON object": "её data — не объект JSON",
    "a look at it that does not fail": "проверки, которая не завершится ошибкой",
    "no answer": "нет ответа",
    "the row of this post does not hold its whole event; use `vision replay --post ID --since 7d`, which reads Kafka": (
        "строка этого поста не хранит всё событие; используйте `vision replay --post ID --since 7d`, она читает Kafka"
    ),
}
