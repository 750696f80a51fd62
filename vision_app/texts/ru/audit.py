"""What `vision audit` finds."""

from .forms import Forms

RU: dict[str, str | Forms] = {
    (
        "{stream} begins at {begins:%Y-%m-%d %H:%M:%S} UTC, as older entries were trimmed (MAXLEN, XTRIM): whether "
        "the {rows_not_judged} finished rows older than that were announced, and how often, cannot be judged"
    ): (
        "{stream} начинается с {begins:%Y-%m-%d %H:%M:%S} UTC, более старые записи обрезаны (MAXLEN, XTRIM): были "
        "ли объявлены более старые завершённые строки ({rows_not_judged}) и сколько раз, сказать нельзя"
    ),
    "it is among the dead letters of Redis, but not on the topic vision.dlq": (
        "оно есть среди dead letters в Redis, но его нет в топике vision.dlq"
    ),
    "it is not on {vision_dlq_stream}, where others look for it": "его нет в {vision_dlq_stream}, где его ищут другие",
    "{origin} holds no entry {offset}": "в {origin} нет записи {offset}",
    "no bill: GigaChat is real and shows none; the worker's own records of paid calls stand in for it": (
        "счёта нет: GigaChat настоящий и счёта не показывает; вместо него — записи воркера об оплаченных вызовах"
    ),
    "the system is at work ({backlog}): what has not ended counts as under way": (
        "система работает ({backlog}): незавершённое считается «в работе»"
    ),
    "{unreadable} records on Kafka could not be read and were passed over": Forms(
        "unreadable",
        "{unreadable} запись в Kafka не читается и пропущена",
        "{unreadable} записи в Kafka не читаются и пропущены",
        "{unreadable} записей в Kafka не читаются и пропущены",
    ),
    "wrong dead letters": "неверные dead letters",
    "dead letter {id} of {whose}: {fault}": "письмо {id} ({whose}) в dead letters: {fault}",
    "deferred posts that no ledger knows of": "отложенные посты, о которых не знает ни один учёт",
    "inputs without an end": "входы без конца",
    (
        "{row} is deferred, but its tenant's ledger does not know of it (was it lost?); the worker asks about it "
        "again within some minutes, `vision replay --post {post_id}` does so at once"
    ): (
        "{row} отложен, но учёт его тенанта о нём не знает (учёт потерян?); воркер спросит о нём снова через "
        "несколько минут, сразу — `vision replay --post {post_id}`"
    ),
    "no media": "нет медиа",
    "input {id} ({tenant_id}/{post_id})": "вход {id} ({tenant_id}/{post_id})",
    "input {id}, which cannot be read,": "вход {id}, который не читается,",
    "its row is in work": "его строка в работе",
    "its row has no result for every picture it lists": "в его строке есть результат не для каждой картинки",
    "it was judged by the policy, and there is no row": "политика его рассмотрела, а строки нет",
    "it is on Kafka, the policy has not handed it on, and there is no row": (
        "он есть в Kafka, политика его дальше не передала, и строки нет"
    ),
    "it never reached Kafka and is no dead letter": "он не дошёл до Kafka и не стал dead letter",
    "{who} has not ended and nothing is under way: {where}; see `vision trace {post_id}`": (
        "{who} не завершён, и по нему ничего не делается: {where}; см. `vision trace {post_id}`"
    ),
    "was published before: emission {time_ms}-{offset} twice": (
        "уже было опубликовано: выпуск {time_ms}-{offset} дважды"
    ),
    "says what {entry_id} said, and nothing was published since": (
        "повторяет {entry_id}, хотя с тех пор ничего не публиковали"
    ),
    "duplicate events": "повторные события",
    "there is no row": "строки нет",
    "the row shows an older state": "в строке более старое состояние",
    "events without a row": "события без строки",
    "{event} is announced, but {why}; see `vision trace`": "{event} объявлено, но {why}; см. `vision trace`",
    "event {entry_id} of {tenant_id}/{post_id}": "событие {entry_id} поста {tenant_id}/{post_id}",
    "rows without an event": "строки без события",
    "the row of {row} was never announced; see `vision trace`": "строка {row} не была объявлена; см. `vision trace`",
    "missing post documents": "недостающие документы постов",
    "the document {document} of {row} is not in S3": "документа {document} поста {row} нет в S3",
    "missing answers": "недостающие ответы",
    "the answer {answer_key}, which {row} shows, is not in S3": (
        "ответа {answer_key}, который показан в {row}, нет в S3"
    ),
    "pictures missing in the graph": "картинки, которых нет в графе",
    "the graph does not link {row} to its picture {sha256}": "в графе нет связи {row} с картинкой {sha256}",
    "and {more} more {kind}": "и ещё {more}: {kind}",
    "it names no entry of {origin}": "оно не называет записи в {origin}",
    "it names no place in {origin}, so nobody can tell what it was": (
        "оно не называет места в {origin}, поэтому нельзя сказать, что это было"
    ),
    "any topic": "каком-либо топике",
    "there never was a record {offset} in {origin}, partition {partition}": (
        "записи {offset} в {origin}, раздел {partition}, никогда не было"
    ),
    "at {place} spent went from {before} to {now}, but the grants closed there cost {charged}": (
        "в {place} потраченное изменилось с {before} на {now}, а закрытые там гранты стоили {charged}"
    ),
    "{given} tokens were granted": Forms(
        "given",
        "был выдан {given} токен,",
        "было выдано {given} токена,",
        "было выдано {given} токенов,",
    ),
    "spent rose": "потраченное выросло,",
    "at {place} {why} although {total} of {limit} tokens were taken then": (
        "в {place} {why} хотя тогда было занято {total} из {limit} токенов"
    ),
    "faults of ledgers": "ошибки учёта",
    "ledger of {tenant_id}: {fault}": "учёт {tenant_id}: {fault}",
    "ledger of {tenant_id}: {older} versions came after a newer one and do not count": Forms(
        "older",
        "учёт {tenant_id}: {older} версия пришла после более новой и не считается",
        "учёт {tenant_id}: {older} версии пришли после более новой и не считаются",
        "учёт {tenant_id}: {older} версий пришли после более новой и не считаются",
    ),
    (
        "ledger of {tenant_id}: compaction removed versions at {gaps} places, so its highest state may have been "
        "higher, and steps across them were not checked"
    ): Forms(
        "gaps",
        "учёт {tenant_id}: сжатие удалило версии в {gaps} месте, поэтому наибольшее состояние могло быть выше, "
        "а шаги через это место не проверены",
        "учёт {tenant_id}: сжатие удалило версии в {gaps} местах, поэтому наибольшее состояние могло быть "
        "выше, а шаги через эти места не проверены",
        "учёт {tenant_id}: сжатие удалило версии в {gaps} местах, поэтому наибольшее состояние могло быть "
        "выше, а шаги через эти места не проверены",
    ),
    "calls nobody granted": "вызовы, на которые никто не давал гранта",
    "{whose} is billed {billed} tokens under {id}, never granted": (
        "{whose}: по счёту {billed} токенов под {id}, такой грант не выдавался"
    ),
    "open grants": "открытые гранты",
    "grant {id} of {tenant_id} is open and nobody works on it": (
        "грант {id} тенанта {tenant_id} открыт, и никто над ним не работает"
    ),
    "grants charged without reason": "гранты, списанные без причины",
    "billed {billed}, and was not cut off": "по счёту {billed}, и вызов не обрывался",
    "calls the ledger does not cover": "вызовы, не покрытые учётом",
    "but billed {billed} in {calls} call(s)": "а по счёту {billed}, вызовов: {calls}",
    "grant {id} of {tenant_id} is charged {charge} tokens, {what}": (
        "по гранту {id} ({tenant_id}) списано {charge} токенов, {what}"
    ),
    "calls without a record": "вызовы без записи",
    "the billed call of grant {id} ({tenant_id}) has no record in S3": (
        "об оплаченном вызове гранта {id} ({tenant_id}) нет записи в S3"
    ),
    "pictures paid for again": "картинки, оплаченные повторно",
    "picture {sha256} of {tenant_id} was paid for again under grant {id}; nothing explains it": (
        "картинка {sha256} тенанта {tenant_id} оплачена снова по гранту {id}; объяснения нет"
    ),
    "Postgres has no table token_charges yet: a worker of this version makes it at its start": (
        "в Postgres ещё нет таблицы token_charges: её создаёт воркер этой версии при старте"
    ),
    (
        "table token_charges was dropped, so `vision cost` knows nothing: `vision migrate repair` makes it "
        "again, `vision migrate refill` writes the charges that Kafka still has"
    ): (
        "таблица token_charges удалена, и `vision cost` ничего не знает: `vision migrate repair` создаст её снова, "
        "`vision migrate refill` запишет списания, которые ещё есть в Kafka"
    ),
    "days with charges that are missing in Postgres": "дни со списаниями, которых нет в Postgres",
    (
        "{day}: {tokens} that the ledger of {tenant_id} charged are not in token_charges, so `vision cost` "
        "shows too little ({grants}): `vision dlq ls --origin {origin}` shows charges that were refused, "
        "`vision migrate refill` writes those that Kafka still has"
    ): (
        "{day}: учёт {tenant_id} списал {tokens}, их нет в token_charges, поэтому `vision cost` показывает слишком "
        "мало ({grants}): `vision dlq ls --origin {origin}` покажет отвергнутые списания, `vision migrate refill` "
        "запишет те, что ещё есть в Kafka"
    ),
    "days with charges in Postgres that no ledger made": "дни со списаниями в Postgres, которых не делал ни один учёт",
    (
        "{day}: token_charges has {tokens} that no ledger of {tenant_id} charged, so `vision cost` shows too "
        "much ({grants}): find out who else writes to the table, then correct these rows by hand"
    ): (
        "{day}: в token_charges есть {tokens}, которых не списывал ни один учёт {tenant_id}, поэтому `vision cost` "
        "показывает слишком много ({grants}): выясните, кто ещё пишет в таблицу, и исправьте эти строки вручную"
    ),
    "{charges} charges may still be on their way to Postgres (or from the ledger to it)": Forms(
        "charges",
        "{charges} списание, возможно, ещё в пути в Postgres (или из учёта)",
        "{charges} списания, возможно, ещё в пути в Postgres (или из учёта)",
        "{charges} списаний, возможно, ещё в пути в Postgres (или из учёта)",
    ),
    "{charges} charges in Postgres are not compared: Kafka no longer has what was reported then": Forms(
        "charges",
        "{charges} списание в Postgres не сверено: в Kafka уже нет того, что тогда сообщалось",
        "{charges} списания в Postgres не сверены: в Kafka уже нет того, что тогда сообщалось",
        "{charges} списаний в Postgres не сверены: в Kafka уже нет того, что тогда сообщалось",
    ),
    "{tokens} tokens in {charges} charge(s)": "токены: {tokens}, списания: {charges}",
    (
        "the simulator of GigaChat at {place} does not tell its bill ({why}); check GIGACHAT_BASE_URL and that "
        "it runs: `vision status`"
    ): (
        "симулятор GigaChat по адресу {place} не отдаёт счёт ({why}); проверьте GIGACHAT_BASE_URL и что он работает: "
        "`vision status`"
    ),
    "tokens in Postgres": "токенов в Postgres",
    "the id of a tenant is never empty; without --tenant all are read": (
        "id тенанта не бывает пустым; без --tenant читаются все"
    ),
    "EXTRA": "ЛИШНИЕ",
    "ON THE WAY": "В ПУТИ",
    "lost tables": "утраченные таблицы",
    "POSTGRES": "POSTGRES",
    "charges missing": "списаний нет",
    "charges extra": "лишние списания",
    "charges on the way": "списания в пути",
}
