"""Texts of `vision budget`, `vision cost` and `vision audit`."""

from .forms import Forms

RU: dict[str, str | Forms] = {
    "analyzed": "проанализировано",
    "skipped": "пропущено",
    "deferred": "отложено",
    "forgotten": "забыто",
    "failed": "с ошибкой",
    "dead lettered": "в dead letters",
    "missing": "пропало",
    "under way": "в работе",
    "events without row": "событий без строки",
    "rows without event": "строк без события",
    "rows not judged": "строк не проверено",
    "records missing": "нет записей о вызовах",
    "answers missing": "нет ответов",
    "documents missing": "нет документов",
    "graph missing": "нет в графе",
    "letters": "писем в dead letters",
    "letters wrong": "неверных dead letters",
    "extra calls": "лишних вызовов",
    "extra tokens": "лишних токенов",
    "extra unexplained": "лишних без объяснения",
    "grants open": "открытых грантов",
    "tokens lost": "токенов потеряно",
    "tokens unexplained": "токенов без объяснения",
    "overspend": "перерасход",
    "since {at} UTC": "с {at} UTC",
    "all that is kept": "за всё, что хранится",
    "Account of {since}, taken {at} UTC in {seconds:.1f} s": "Сверка {since}, снята {at} UTC за {seconds:.1f} с",
    "note: {note}": "примечание: {note}",
    "WRONG: {sentence}": "НЕВЕРНО: {sentence}",
    "nothing is wrong": "всё верно",
    "{count} discrepancies, see WRONG above": Forms(
        "count",
        "{count} расхождение, см. НЕВЕРНО выше",
        "{count} расхождения, см. НЕВЕРНО выше",
        "{count} расхождений, см. НЕВЕРНО выше",
    ),
    "{inputs} inputs, {ended} ended, {missing} missing: {wrong}": (
        "Входов: {inputs}, завершено: {ended}, пропало: {missing}; {wrong}"
    ),
    "inputs": "входы",
    "  skipped because": "  пропущены из-за",
    "events": "события",
    "stores": "хранилища",
    "calls": "вызовы",
    "calls (by our records)": "вызовы (по нашим записям)",
    "  asked again because": "  спрошены снова из-за",
    "tokens billed": "токены по счёту",
    "tokens in the ledger": "токены в учёте",
    "publish to event": "от публикации до события",
    "p50 {p50:.2f} s, p95 {p95:.2f} s, max {longest:.2f} s": (
        "p50 {p50:.2f} с, p95 {p95:.2f} с, максимум {longest:.2f} с"
    ),
    "TENANT": "ТЕНАНТ",
    "INPUTS": "ВХОДЫ",
    "ENDED": "ЗАВЕРШЕНО",
    "MISSING": "ПРОПАЛО",
    "EVENTS": "СОБЫТИЯ",
    "CALLS": "ВЫЗОВЫ",
    "EXTRA": "ЛИШНИЕ",
    "BILLED": "ПО СЧЁТУ",
    "LEDGER": "В УЧЁТЕ",
    "PEAK": "ПИК",
    "P95": "P95",
    "{total:,} of {limit:,}": "{total:,} из {limit:,}",
    "(unreadable)": "(не читается)",
    "and {more} more; --json has all of them": "и ещё {more}; все есть в --json",
    "GRANT": "ГРАНТ",
    "CHARGED": "СПИСАНО",
    "BECAUSE": "ПОЧЕМУ",
    "limit": "лимит",
    "spent": "потрачено",
    "reserved": "в резерве",
    "remaining": "осталось",
    (
        "no worker answers at {address}: {fault}; start one with `vision up`, or set VISION_API_HOST and "
        "VISION_API_PORT to where it listens"
    ): (
        "по адресу {address} воркер не отвечает: {fault}; запустите его: `vision up`, или задайте в "
        "VISION_API_HOST и VISION_API_PORT, где он слушает"
    ),
    (
        "accepted, but not to be seen after {seconds:g} s; look again with `vision budget show`, and with `vision "
        "doctor` if it does not come"
    ): (
        "принято, но за {seconds:g} с результата не видно; посмотрите ещё раз: `vision budget show`, а если не "
        "появится — `vision doctor`"
    ),
    "none": "нет",
    " and more": " и другие",
    (
        "No such tenant is known: no post of {tenant} has been read and nobody has changed its budget; above is "
        "what it would begin with. Known: {known}{more}."
    ): (
        "Такой тенант неизвестен: ни одного поста {tenant} не прочитано, и никто не менял его бюджет; выше — то, с "
        "чего он начал бы. Известны: {known}{more}."
    ),
    "number": "номер",
    "post": "пост",
    "sha256": "sha256",
    "tokens": "токены",
    "waits": "ждёт",
    "trace": "трасса",
    "{seconds} s": "{seconds} с",
    "yes": "да",
    "no": "нет",
    "{waiting} waiting": Forms(
        "waiting",
        "{waiting} задача ждёт",
        "{waiting} задачи ждут",
        "{waiting} задач ждут",
    ),
    "more: --start {next_start}": "дальше: --start {next_start}",
    "give either a NUMBER of `vision budget parked ls` or --all": (
        "укажите либо NUMBER из `vision budget parked ls`, либо --all"
    ),
    "paused": "на паузе",
    "going on": "в работе",
    "give either TENANT or --all": "укажите либо TENANT, либо --all",
    (
        "Only {tenant} (S3_DEFAULT_TENANT_ID) is {done}, as no TENANT was given. Others: `vision {command} "
        "TENANT`; all: `vision {command} --all`."
    ): (
        "Только {tenant} (S3_DEFAULT_TENANT_ID) теперь {done}, потому что TENANT не указан. Другие: `vision "
        "{command} TENANT`; все: `vision {command} --all`."
    ),
    "{tenant_id}: {done}, {open_grants} in work, {waiting} waiting": (
        "{tenant_id}: {done}, вызовов в работе: {open_grants}, ждут: {waiting}"
    ),
    "{count} tenants {done} that were not before.": Forms(
        "count",
        "Теперь {done} ещё {count} тенант.",
        "Теперь {done} ещё {count} тенанта.",
        "Теперь {done} ещё {count} тенантов.",
    ),
    "Tenants nobody has seen yet are not paused: FEATURE_VISION_ENABLED=false and a restart stops reading.": (
        "Тенанты, которых ещё никто не видел, не на паузе: чтение останавливает FEATURE_VISION_ENABLED=false с "
        "перезапуском."
    ),
    "give a number of tokens, or `default`": "укажите число токенов или `default`",
    "the answer is not this service's; is VISION_API_PORT another program's?": (
        "это ответ не нашего сервиса; порт VISION_API_PORT занят другой программой?"
    ),
    "   PAUSED: `vision resume {whose}` lets work go on": "   НА ПАУЗЕ: продолжить — `vision resume {whose}`",
    "tenant     {tenant_id}{paused}": "тенант     {tenant_id}{paused}",
    "day        {day} UTC, ends {reset_at}": "день       {day} UTC, до {reset_at}",
    "{name:<10} {tokens:>12,} tokens": "{name:<10} {tokens:>12,} токенов",
    "in work    {open_grants:>12,}": "в работе   {open_grants:>12,}",
    "waiting    {waiting:>12,}": "ждут       {waiting:>12,}",
    "CACHE": "КЭШ",
    "SAME TIME": "СРАЗУ",
    "POLICY*": "ПОЛИТИКА*",
    "OCR*": "OCR*",
    "DEFERRED*": "ОТЛОЖЕНО*",
    "CHANNEL": "КАНАЛ",
    "MODEL": "МОДЕЛЬ",
    "KIND": "ВИД",
    "DAY": "ДЕНЬ",
    "--since must be earlier than --until": "--since должно быть раньше, чем --until",
    "TOKENS": "ТОКЕНЫ",
    "CUT OFF": "ОБОРВАНО",
    "ROUBLES": "РУБЛИ",
    "SAVED: {how}": "СБЕРЕЖЕНО: {how}",
    ", {money} roubles; at this pace {forecast_money}": ", {money} руб.; в этом темпе {forecast_money}",
    "{name} so far: {tokens:,} tokens; at this pace {forecast_tokens:,} at its end{money}.": (
        "{name} на сегодня: токенов {tokens:,}; в этом темпе к концу {forecast_tokens:,}{money}."
    ),
    "Saved tokens with * are estimates: pictures times the mean of a call. SAME TIME: one call for several.": (
        "Сбережённые токены со * — оценка: число картинок на среднюю цену вызова. СРАЗУ: один вызов для нескольких "
        "постов."
    ),
    "Without a price, so roubles are not known: {unpriced}. Set VISION_PRICES.": (
        "Нет цены, поэтому рубли неизвестны: {unpriced}. Задайте VISION_PRICES."
    ),
    "together": "вместе",
    "{seconds:.2f} s": "{seconds:.2f} с",
}
