"""What a worker says of itself."""

RU = {
    "partly ready: {ready} of {count} processes work on messages; {why}": (
        "готов частично: сообщения обрабатывают {ready} из {count} процессов; {why}"
    ),
    "none of {count} processes works on messages; {why}": (
        "ни один из {count} процессов не обрабатывает сообщения; {why}"
    ),
    "broken: {names}; GET /readyz says why": "не в порядке: {names}; причину называет GET /readyz",
    "it does not answer; it may be frozen": "не отвечает; возможно, завис",
    "it does not answer at its port yet": "ещё не отвечает на своём порту",
    "it broke off: {fault}": "соединение прервалось: {fault}",
    "the body is larger than VISION_API_MAX_BODY_BYTES ({most})": ("тело больше VISION_API_MAX_BODY_BYTES ({most})"),
    "the process that worked on it gave no answer ({why}); see whether it was done, then repeat it": (
        "процесс, который выполнял запрос, не ответил ({why}); проверьте, выполнено ли действие, затем повторите"
    ),
    "no process of this worker answers ({why}); ask again in a few seconds, or see GET /readyz": (
        "ни один процесс этого воркера не отвечает ({why}); повторите через несколько секунд или см. GET /readyz"
    ),
    "draining: the worker stops": "завершается: воркер останавливается",
    "rebalancing: partitions are being shared out": "перераспределение: воркеры делят разделы",
    "starting: connecting and recovering the tables": "запускается: подключение и восстановление таблиц",
    "recovering the tables": "восстанавливает таблицы",
    "stalled: {stage} at {place} for {seconds:.0f} s; {why}. {remedy}": (
        "стоит: {stage} в {place} уже {seconds:.0f} с; {why}. {remedy}"
    ),
    "the worker that took it stopped before the end; start it again": (
        "воркер, который её вёл, остановлен раньше конца; запустите её снова"
    ),
    "the worker that took it died or lost Postgres before the end; start it again": (
        "воркер, который её вёл, упал или потерял Postgres раньше конца; запустите её снова"
    ),
    "its process cannot be started ({fault}); free memory, then start it again": (
        "её процесс не запускается ({fault}); освободите память и запустите её снова"
    ),
    "it failed unexpectedly; the log of worker {worker} has the reason": (
        "неожиданная ошибка; причина в логе воркера {worker}"
    ),
    "it printed more than {most} bytes": "он вывел больше {most} байт",
    "it ended with status {status}: {why}": "он завершился с кодом {status}: {why}",
    "it printed something else: {why}": "он вывел что-то другое: {why}",
    "it printed nothing": "он ничего не вывел",
    "the process that takes the account failed ({why}); run `vision audit` to see more": (
        "процесс сверки не справился ({why}); запустите `vision audit`, чтобы узнать больше"
    ),
    (
        "its process was ended by signal {number} ({name}); if memory was short, ask for a shorter time with `since`, "
        "then start it again"
    ): (
        "её процесс завершён сигналом {number} ({name}); если не хватило памяти, запросите меньший период (`since`) и "
        "запустите её снова"
    ),
    (
        "it was not done after {seconds:.0f} s; ask for a shorter time with `since`, or raise "
        "VISION_AUDIT_TIMEOUT_SECONDS and restart the worker"
    ): (
        "не закончена за {seconds:.0f} с; запросите меньший период (`since`) или увеличьте "
        "VISION_AUDIT_TIMEOUT_SECONDS и перезапустите воркер"
    ),
    (
        "it needs more memory than {memory_mb} MiB; ask for a shorter time with `since`, or raise "
        "VISION_AUDIT_MEMORY_MB and restart the worker"
    ): (
        "нужно больше памяти, чем {memory_mb} МиБ; запросите меньший период (`since`) или увеличьте "
        "VISION_AUDIT_MEMORY_MB и перезапустите воркер"
    ),
    "an account is being taken; GET {see} shows when it is done, then repeat the request": (
        "сверка уже идёт; GET {see} показывает, когда она закончена, потом повторите запрос"
    ),
    "Redis is not connected yet": "Redis ещё не подключён",
    "Kafka is away for {seconds:.0f} s: {trouble}; start its brokers, or see their logs": (
        "Kafka недоступна {seconds:.0f} с: {trouble}; запустите её брокеры или посмотрите их логи"
    ),
    "no answer for {oldest:.0f} s": "нет ответа {oldest:.0f} с",
    "the event loop is blocked; nothing goes on in this worker": (
        "цикл событий заблокирован; в этом воркере ничего не движется"
    ),
    "it waits for nothing known": "не ждёт ничего известного",
    "nobody works on it": "над этим никто не работает",
    "restart the worker; the log has the reason": "перезапустите воркер; причина в логе",
    "vision dlq take {place} --reason TEXT --dry-run; if it stays, restart the worker": (
        "vision dlq take {place} --reason TEXT --dry-run; если не помогает, перезапустите воркер"
    ),
    "raising a limit needs Postgres, which is away; see `vision doctor`": (
        "чтобы поднять лимит, нужен Postgres, а он недоступен; см. `vision doctor`"
    ),
    "not loaded yet: waits for Postgres, nothing is granted until then; see `vision doctor`": (
        "ещё не загружен: ждёт Postgres, до тех пор ничего не выдаётся; см. `vision doctor`"
    ),
    "not loaded yet: this ledger is new or was lost, and no command of the tenant has come since; what was "
    "spent today, the limit and a pause are read from Postgres at the first one, before anything is granted": (
        "ещё не загружен: этот учёт новый или был потерян, и с тех пор от тенанта не было ни одной команды; "
        "потраченное сегодня, лимит и пауза читаются из Postgres при первой, раньше чем что-то выдаётся"
    ),
    "this worker is starting or stopping; repeat the request in a few seconds": (
        "этот воркер запускается или останавливается; повторите запрос через несколько секунд"
    ),
    "Kafka does not take the command; see `vision doctor`, then repeat it": (
        "Kafka не принимает команду; см. `vision doctor`, затем повторите"
    ),
    "send Authorization: Bearer <token>, one of VISION_API_TOKENS": (
        "пришлите Authorization: Bearer <token>, один из VISION_API_TOKENS"
    ),
    "this is not a name of this server; add it to VISION_ALLOWED_HOSTS": (
        "у этого сервера нет такого имени; добавьте его в VISION_ALLOWED_HOSTS"
    ),
    "there is nothing here that this token may see": "здесь нет ничего, что этому токену можно видеть",
    "this needs a token for all tenants: token=* in VISION_API_TOKENS": (
        "для этого нужен токен на всех тенантов: token=* в VISION_API_TOKENS"
    ),
    "changes are only taken from programs and from pages of this server": (
        "изменения принимаются только от программ и со страниц этого сервера"
    ),
    "the request's body did not arrive in time; send it again": "тело запроса не пришло вовремя; отправьте его снова",
    "there was no answer in time; ask for less, or again in a few seconds": (
        "ответа вовремя не было; спросите о меньшем или снова через несколько секунд"
    ),
    "correct what is named in details.faults": "исправьте названное в details.faults",
    "work is being shared out anew; ask again in a few seconds": (
        "работа распределяется заново; спросите снова через несколько секунд"
    ),
    "there was no answer in time; this worker waits for {away}; see `vision doctor`": (
        "ответа не было вовремя; этот воркер ждёт: {away}; смотрите `vision doctor`"
    ),
}
