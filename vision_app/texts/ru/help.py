"""Help of the commands."""

RU = {
    "Looks at every picture posted to a Telegram channel and tells the rest of an assistant what it shows.": (
        "Смотрит каждую картинку, опубликованную в канале Telegram, и сообщает остальному ассистенту, что на ней."
    ),
    "Show the version and exit.": "Показать версию и выйти.",
    "Start the services and the worker in the background; returns when the worker is ready.": (
        "Запустить сервисы и воркер в фоне; возвращается, когда воркер готов."
    ),
    (
        "The first start downloads about 190 MB. Services whose URL is set (REDIS_URL, KAFKA_BOOTSTRAP_SERVERS, "
        "DATABASE_URL, S3_ENDPOINT_URL, NEO4J_URI, GIGACHAT_BASE_URL) are not started. If it runs already, "
        "--workers changes the number of workers."
    ): (
        "Первый запуск скачивает около 190 МБ. Сервисы, URL которых задан (REDIS_URL, KAFKA_BOOTSTRAP_SERVERS, "
        "DATABASE_URL, S3_ENDPOINT_URL, NEO4J_URI, GIGACHAT_BASE_URL), не запускаются. Если стек уже работает, "
        "--workers меняет число воркеров."
    ),
    "How many workers; default: VISION_WORKERS, or as many as run already.": (
        "Сколько воркеров; по умолчанию VISION_WORKERS или сколько уже работает."
    ),
    "How many Kafka brokers. Default: as many as there is data of, else 1.": (
        "Сколько брокеров Kafka. По умолчанию — для скольких есть данные, иначе 1."
    ),
    "What to run as a worker.": "Что запускать в качестве воркера.",
    "Stop workers, then services; no process is left. Data stays.": (
        "Остановить воркеры, затем сервисы; процессов не остаётся. Данные остаются."
    ),
    "What runs, where, since when, with how much memory, and what each worker waits for.": (
        "Что работает, где, с каких пор, сколько памяти занимает и чего ждёт каждый воркер."
    ),
    "Exit code 0 if everything is ready and no work stands still, otherwise 1.": (
        "Код завершения 0, если всё готово и ничего не стоит, иначе 1."
    ),
    "For scripts.": "Для скриптов.",
    "Show the last lines of a service's log. SERVICE is a name from `vision status`, or supervisor.": (
        "Показать последние строки лога сервиса. SERVICE — имя из `vision status` или supervisor."
    ),
    "Go on showing what is added.": "Показывать и то, что добавляется.",
    "How many lines first.": "Сколько строк сначала.",
    "Run a worker here, in the foreground, until SIGTERM or Ctrl-C. Arguments go to Faust's own worker command.": (
        "Запустить воркер здесь, на переднем плане, до SIGTERM или Ctrl-C. Аргументы передаются команде worker "
        "самого Faust."
    ),
    (
        "`vision worker stop|start|restart [N]...` stops, starts or restarts workers of `vision up`: those of "
        "these numbers, or all. Exit code 0 when it is done."
    ): (
        "`vision worker stop|start|restart [N]...` останавливает, запускает или перезапускает воркеры `vision up`: "
        "с этими номерами или все. Код завершения 0, когда сделано."
    ),
    "Check what keeps the system from working, and say what to do. Exit code 1 if something must be done.": (
        "Проверить, что мешает системе работать, и сказать, что делать. Код завершения 1, если что-то нужно сделать."
    ),
    "Check tables, topics and bucket, and put back what is missing.": (
        "Проверить таблицы, топики и бакет и вернуть недостающее."
    ),
    "A worker makes all of them when it starts. These commands are for when something was dropped since then.": (
        "Всё это создаёт воркер при запуске. Эти команды — на случай, если потом что-то удалили."
    ),
    "Apply the migrations that are not applied yet, as a worker does when it starts.": (
        "Применить ещё не применённые миграции, как это делает воркер при запуске."
    ),
    (
        "With DATABASE_OWNER_URL also grant the user of DATABASE_URL the rights that a worker needs. Exit code 1 "
        "if some of them could not be granted."
    ): (
        "С DATABASE_OWNER_URL также выдать пользователю DATABASE_URL права, нужные воркеру. Код завершения 1, если "
        "какие-то выдать не удалось."
    ),
    "Fill tables that were made again with the results that Kafka still has (KAFKA_RETENTION_DAYS).": (
        "Заполнить созданные заново таблицы результатами, которые ещё хранит Kafka (KAFKA_RETENTION_DAYS)."
    ),
    (
        "No provider is asked, nothing is charged and nothing announced. A newer row is never replaced, so it may "
        "run at any time."
    ): (
        "Провайдера не спрашивают, ничего не списывается и не объявляется. Более новая строка не заменяется, "
        "поэтому запускать можно в любое время."
    ),
    "Put back what is missing. Existing things are never changed, and rows of a dropped table do not come back.": (
        "Вернуть недостающее. Имеющееся не меняется, а строки удалённой таблицы не возвращаются."
    ),
    "May run beside workers. Exit code 1 if something could not be put back.": (
        "Можно запускать рядом с воркерами. Код завершения 1, если что-то вернуть не удалось."
    ),
    "Look at this alone.": "Смотреть только это.",
    "Show what is missing or was changed. Exit code 1 if there is anything. Changes nothing.": (
        "Показать, чего нет или что изменено. Код завершения 1, если такое есть. Ничего не меняет."
    ),
    "The effective configuration and where each value comes from. Secrets are hidden.": (
        "Действующие настройки и откуда взято каждое значение. Секреты скрыты."
    ),
    "Check FILE, or the policy in use. Exit code 1 and one line per fault if it cannot be used.": (
        "Проверить FILE или действующую политику. Код завершения 1 и строка на каждую ошибку, если её нельзя "
        "использовать."
    ),
    "Run recorded inputs through another policy and say what would change: which media, at most how many tokens.": (
        "Провести записанные входы через другую политику и сказать, что изменилось бы: какие медиа, сколько "
        "токенов не больше."
    ),
    "The policy to try.": "Политика, которую попробовать.",
    "Inputs recorded since then: 2h, 1d, 2026-11-22T18:00 (UTC); default: all.": (
        "Входы, записанные с тех пор: 2h, 1d, 2026-11-22T18:00 (UTC); по умолчанию все."
    ),
    "Only this tenant's.": "Только этого тенанта.",
    "Show every rule's verdict on each medium of the uploaded post in EVENT, a JSON file (- for stdin).": (
        "Показать решение каждого правила о каждом медиа загруженного поста из EVENT, файла JSON (- для stdin)."
    ),
    "Another policy than the one in use.": "Другая политика вместо действующей.",
    "As if the tenant's budget were spent.": "Как если бы бюджет тенанта был потрачен.",
    "As if the tenant had spent so many tokens today.": "Как если бы тенант потратил сегодня столько токенов.",
    "Send one post through the whole pipeline and check every step (acceptance guide). Exit code 0 if all succeed.": (
        "Провести один пост через весь конвейер и проверить каждый шаг (руководство по приёмке). Код завершения 0, "
        "если все шаги удались."
    ),
    "Test with this post; default: a new one.": "Проверить на этом посте; по умолчанию — новый.",
    "Test with this picture; default: one of our own, made unique, so that GigaChat is really asked (and paid).": (
        "Проверить на этой картинке; по умолчанию — одна из наших, сделанная неповторимой, чтобы GigaChat "
        "действительно спросили (и оплатили)."
    ),
    "Default: S3_DEFAULT_TENANT_ID.": "По умолчанию: S3_DEFAULT_TENANT_ID.",
    "Seconds to wait at most.": "Сколько секунд ждать, не больше.",
    "Publish test posts. All valid ones list the same picture; their trace ids are t-test-0001 and so on.": (
        "Опубликовать тестовые посты. Все правильные называют одну и ту же картинку; их трассы — t-test-0001 и так "
        "далее."
    ),
    "How many posts.": "Сколько постов.",
    "With their picture; without its object; unreadable; or 60 %, 30 % and 10 % of these.": (
        "С картинкой; без её объекта; нечитаемые; или 60 %, 30 % и 10 % таких."
    ),
    "Ids are PREFIX-0001 and so on.": "Id — PREFIX-0001 и так далее.",
    "All at once instead of ten a second.": "Все сразу, а не по десять в секунду.",
    "Default: the first of VISION_INPUT_STREAMS.": "По умолчанию первый из VISION_INPUT_STREAMS.",
    "The object of valid posts (must be there), or of missing ones (must not).": (
        "Объект правильных постов (должен быть) или постов без объекта (не должен)."
    ),
    "The picture's sha256 as the events tell it; default: the true one.": (
        "SHA-256 картинки, каким его называют события; по умолчанию настоящий."
    ),
    "What poison is: an entry cut in the middle, or, as in the assistant's own script, one without its object.": (
        "Что такое нечитаемое: запись, обрезанная посередине, или, как в скрипте самого ассистента, запись без объекта."
    ),
    "What is known of a post (--post-id), counts (stats), whether a file would be analyzed (test).": (
        "Что известно о посте (--post-id), счётчики (stats), будет ли файл анализироваться (test)."
    ),
    "Another database than the configured one.": "Другая база вместо настроенной.",
    "Another Redis than the configured one.": "Другой Redis вместо настроенного.",
    "Only this tenant; S3_DEFAULT_TENANT_ID for `test`.": "Только этот тенант; для `test` — S3_DEFAULT_TENANT_ID.",
    "The same as `check --post-id`.": "То же, что `check --post-id`.",
    "What is known of a post. Exit code 0 also for an unknown post, 1 if a service cannot be read.": (
        "Что известно о посте. Код завершения 0 и для неизвестного поста, 1 — если какой-то сервис нельзя прочитать."
    ),
    "Lengths of the streams, pending entries, objects and bytes in S3.": (
        "Длины потоков, записи в обработке, объекты и байты в S3."
    ),
    "Whether a file would be analyzed, and how. Sends nothing. Exit code 0 if it would, 3 if not.": (
        "Будет ли файл анализироваться и как. Ничего не отправляет. Код завершения 0, если будет, 3, если нет."
    ),
    "Store FILE once under its SHA-256, if there is room; print it in the form of an event's `media_files`.": (
        "Сохранить FILE один раз под его SHA-256, если есть место; вывести его в виде `media_files` события."
    ),
    "Exit code 0: it is stored, now or earlier (`deduplicated`); 1: refused, with the reason.": (
        "Код завершения 0: сохранён, сейчас или раньше (`deduplicated`); 1: отклонён, с причиной."
    ),
    "Whose picture it is; default: S3_DEFAULT_TENANT_ID.": "Чья это картинка; по умолчанию S3_DEFAULT_TENANT_ID.",
    "Its type; default: told from its content.": "Её тип; по умолчанию — по содержимому.",
    "Show usage and limits of the bucket; clean it up. GB are GiB (1024^3 bytes).": (
        "Показать занятое место и лимиты бакета; очистить его. GB — это GiB (1024^3 байт)."
    ),
    "Delete expired objects, and objects above the limits of tenants and bucket; never those that a post needs.": (
        "Удалить просроченные объекты и объекты сверх лимитов тенантов и бакета; нужные постам — никогда."
    ),
    "Until so many GB of the limit are free.": "Пока не освободится столько GB лимита.",
    "Only objects of this type.": "Только объекты этого типа.",
    "Say what would go; delete nothing.": "Сказать, что исчезло бы; ничего не удалять.",
    "The objects in the bucket now: tenant, type, size, age.": (
        "Объекты, которые сейчас в бакете: тенант, тип, размер, возраст."
    ),
    "Only what this tenant pays for.": "Только то, за что платит этот тенант.",
    "The first so many, by key.": "Столько первых по ключу.",
    "Usage and limit of the bucket, or of TENANT.": "Занятое место и лимит бакета или TENANT.",
    "Usage, limits, rules, the largest tenants; when the bucket was counted and cleaned up.": (
        "Занятое место, лимиты, правила, самые большие тенанты; когда бакет посчитан и очищен."
    ),
    "Only objects older than the TTL of their type.": "Только объекты старше срока хранения их типа.",
    "Delete it; without this, only say what would go.": "Удалить; без этого — только сказать, что исчезло бы.",
    (
        "Show a post's way: ID is of a post, a trace, a Redis entry (1727654321000-0), a Kafka record (topic-3-17) "
        "or a dead letter."
    ): (
        "Показать путь поста: ID — это id поста, трассы, записи Redis (1727654321000-0), записи Kafka (topic-3-17) "
        "или dead letter."
    ),
    "Exit code 0 if it came to its end, 3 if it is still on its way, 1 if nothing is known of it.": (
        "Код завершения 0, если он дошёл до конца, 3, если ещё в пути, 1, если о нём ничего не известно."
    ),
    "Only this tenant's post.": "Только пост этого тенанта.",
    "How far back to search without a row.": "Как далеко назад искать, если строки нет.",
    "Which posts hang, since when, and what they wait for. Exit code 0 if none hangs, 3 if some do.": (
        "Какие посты зависли, с каких пор и чего ждут. Код завершения 0, если таких нет, 3, если есть."
    ),
    "Posts in work for longer than --older-than (the only listing so far).": (
        "Посты, которые в работе дольше --older-than (пока единственный список)."
    ),
    "30s, 5m, 2h, 1d.": "30s, 5m, 2h, 1d.",
    "The oldest so many.": "Столько самых старых.",
    "Was every input answered once, and every token charged once?": (
        "Получил ли каждый вход один ответ и списан ли каждый токен один раз?"
    ),
    (
        "Compares inputs with rows, events, answers, graph, ledger, bill and charges. Reads only. Unfinished work is "
        "counted as under way; without any, the account is exact. Exit code 0 clean, 1 discrepancies, 2 cannot "
        "read."
    ): (
        "Сравнивает входы со строками, событиями, ответами, графом, учётом, счётом и списаниями. Только читает. "
        "Незавершённое считается «в работе»; если его нет, сверка точна. Код завершения 0 — всё верно, 1 — есть "
        "расхождения, 2 — не читается."
    ),
    "Only this tenant's; may be given several times.": "Только этого тенанта; можно указать несколько раз.",
    "Only what was published since then: 2h, 1d (ago), 2026-11-22T18:00 (UTC).": (
        "Только опубликованное с тех пор: 2h, 1d (назад), 2026-11-22T18:00 (UTC)."
    ),
    "Dead letters: show, replay or discard them; set a record aside that holds up its partition.": (
        "Dead letters: показать, отправить снова или списать; отложить запись, которая задерживает свой раздел."
    ),
    "Letters that were replayed or discarded are hidden; --all shows them.": (
        "Отправленные снова и списанные письма скрыты; их показывает --all."
    ),
    "Mark letters as done. They stay on the topic until its retention ends (--all shows them).": (
        "Отметить письма как решённые. Они остаются в топике до конца срока хранения (их показывает --all)."
    ),
    "This letter; may be repeated.": "Это письмо; можно повторять.",
    "From this topic or Redis stream.": "Из этого топика или потока Redis.",
    "With this error class, for example unreadable.": "С этим классом ошибки, например unreadable.",
    "Written since then: 2h, 1d, 2026-11-22T18:00 (UTC).": "Записанные с тех пор: 2h, 1d, 2026-11-22T18:00 (UTC).",
    "Of this tenant.": "Этого тенанта.",
    "Also those replayed or discarded already.": "И те, что уже отправлены снова или списаны.",
    "Without any filter: all that wait for a decision.": "Без фильтра: все, что ждут решения.",
    "Only say which.": "Только сказать, какие.",
    "List dead letters, the newest last. Exit code 0 also when there are none.": (
        "Список dead letters, новые внизу. Код завершения 0 и тогда, когда их нет."
    ),
    "The newest so many.": "Столько самых новых.",
    "For scripts: one letter a line, whole.": "Для скриптов: по письму на строку, целиком.",
    "Send letters again: to their origin, or to the step before the budget if they had reached the budget.": (
        "Отправить письма снова: туда, откуда они, или на шаг перед бюджетом, если они дошли до бюджета."
    ),
    "Exit code 1 if a chosen letter could not be replayed.": (
        "Код завершения 1, если какое-то из выбранных писем нельзя отправить снова."
    ),
    "Also letters that came back after two replays.": "И письма, которые вернулись после двух отправок.",
    "Only say what would be sent where, and what it may cost.": (
        "Только сказать, что и куда было бы отправлено и сколько это может стоить."
    ),
    "Show one letter whole, and what was done with it.": "Показать одно письмо целиком и что с ним делали.",
    "Set a record aside that holds up its partition: it becomes a dead letter and the rest goes on.": (
        "Отложить запись, которая задерживает свой раздел: она станет dead letter, а остальное продолжится."
    ),
    (
        "PLACE is topic-partition-offset, or stream-id for an entry of an input stream, as GET /readyz, `vision "
        "doctor` and the log name it. The worker that has it cancels the handling; after a restart the handling "
        "does not start again. Exit code 3: marked, but no worker has set it aside within --wait seconds; a worker "
        "does so as soon as it gets the record."
    ): (
        "PLACE — это топик-раздел-смещение или поток-id для записи входного потока, как их называют GET /readyz, "
        "`vision doctor` и лог. Воркер, у которого она, прекращает её обработку; после перезапуска обработка не "
        "начинается снова. Код завершения 3: помечена, но за --wait секунд ни один воркер её не отложил; воркер "
        "сделает это, как только её получит."
    ),
    "Why; stands in the letter.": "Почему; записывается в письмо.",
    "Only say what the record is, who holds it and what follows.": (
        "Только сказать, что это за запись, у кого она и что последует."
    ),
    "Send recorded inputs again, chosen by time, offsets or provider.": (
        "Отправить записанные входы снова: по времени, смещениям или провайдеру."
    ),
    (
        "Without --force only media without an answer of the current version are asked about; stored answers are "
        "free in both cases. --provider ocr_fallback implies --force: an answer by OCR counts as an answer."
    ): (
        "Без --force спрашивают только о медиа без ответа текущей версии; сохранённые ответы в обоих случаях "
        "бесплатны. --provider ocr_fallback включает --force: ответ OCR считается ответом."
    ),
    "Inputs recorded since then: 2h, 1d, 2026-11-22T18:00 (UTC).": (
        "Входы, записанные с тех пор: 2h, 1d, 2026-11-22T18:00 (UTC)."
    ),
    "Inputs recorded before then; default: now.": "Входы, записанные раньше этого; по умолчанию сейчас.",
    "partition:first-last of posts.vision.uploaded; may be repeated.": (
        "раздел:первое-последнее топика posts.vision.uploaded; можно повторять."
    ),
    "Posts with a medium answered by this provider; --since and --until then mean when.": (
        "Посты с медиа, на которое ответил этот провайдер; --since и --until тогда означают, когда."
    ),
    "Only this post's.": "Только этого поста.",
    "Ask again about media that are answered or in work, too.": (
        "Спросить снова и о медиа, на которые есть ответ или которые в работе."
    ),
    "Only say how many, and how many tokens it may cost.": (
        "Только сказать, сколько их и сколько токенов это может стоить."
    ),
    "What tenants spent and may spend. Without TENANT: S3_DEFAULT_TENANT_ID.": (
        "Сколько тенанты потратили и могут потратить. Без TENANT — S3_DEFAULT_TENANT_ID."
    ),
    "Tasks that wait for money or for a slot.": "Задачи, которые ждут денег или места.",
    "Give up the task with this NUMBER: its post is answered as skipped. `vision replay` can bring it back.": (
        "Отказаться от задачи NUMBER: её пост получит ответ «пропущен». Вернуть его может `vision replay`."
    ),
    "All tasks that wait.": "Все ждущие задачи.",
    "The queue of TENANT, first in first out.": "Очередь TENANT, первым пришёл — первым вышел.",
    "The first number to show.": "С какого номера показывать.",
    "Set what TENANT has spent today to zero; tasks that waited for money go on.": (
        "Обнулить то, что TENANT потратил сегодня; задачи, ждавшие денег, продолжатся."
    ),
    "Let TENANT spend LIMIT tokens per UTC day; `default` for VISION_MAX_DAILY_TOKENS.": (
        "Разрешить TENANT тратить LIMIT токенов за день UTC; `default` — VISION_MAX_DAILY_TOKENS."
    ),
    "Limit, spending, reservations and the queue of TENANT. Exit code 3 if no such tenant is known.": (
        "Лимит, траты, резерв и очередь TENANT. Код завершения 3, если такой тенант неизвестен."
    ),
    "What was spent, in tokens and roubles, and what was not spent and why.": (
        "Сколько потрачено в токенах и рублях и что не потрачено и почему."
    ),
    "Tokens are those of the ledgers, to the token as in `vision audit`. VISION_PRICES gives the roubles.": (
        "Токены — из учёта, до токена как в `vision audit`. Рубли — по VISION_PRICES."
    ),
    "How to group.": "Как группировать.",
    "From then on: 1d, 2026-11-01 (UTC); default: this month.": (
        "С этого времени: 1d, 2026-11-01 (UTC); по умолчанию этот месяц."
    ),
    "Before then; default: now.": "До этого времени; по умолчанию сейчас.",
    "Only this tenant.": "Только этот тенант.",
    "For a table calculation.": "Для электронной таблицы.",
    "Start nothing new for TENANT, or for --all; calls in flight end, other work waits.": (
        "Не начинать ничего нового для TENANT или для --all; начатые вызовы закончатся, остальное ждёт."
    ),
    "Every tenant that Postgres knows.": "Все тенанты, которых знает Postgres.",
    "Continue the work of TENANT, or of --all paused tenants, after `vision pause`.": (
        "Продолжить работу TENANT или --all приостановленных тенантов после `vision pause`."
    ),
    "Kafka's own console tools, connected to the configured broker (KAFKA_BOOTSTRAP_SERVERS).": (
        "Собственные консольные утилиты Kafka, подключённые к настроенному брокеру (KAFKA_BOOTSTRAP_SERVERS)."
    ),
    (
        "Every argument is passed on, for example: vision kafka consume --topic vision.posts --from-beginning. "
        "`--help` after a command shows the tool's own help."
    ): (
        "Все аргументы передаются дальше, например: vision kafka consume --topic vision.posts --from-beginning. "
        "`--help` после команды показывает справку самой утилиты."
    ),
    "kafka-configs: for example --describe --entity-type topics --entity-name vision.posts.": (
        "kafka-configs: например, --describe --entity-type topics --entity-name vision.posts."
    ),
    "kafka-console-consumer: prints `key|value` lines that `produce` accepts.": (
        "kafka-console-consumer: печатает строки `key|value`, которые принимает `produce`."
    ),
    (
        "Control characters in JSON are printed as equivalent escapes. Other values are escaped on a terminal "
        "only, and go unchanged into a file or a pipe."
    ): (
        "Управляющие символы в JSON печатаются равнозначными escape-последовательностями. Другие значения "
        "экранируются только на терминале, а в файл и в канал идут без изменений."
    ),
    "kafka-consumer-groups. Without arguments: the lag of the workers' group (--describe --group KAFKA_APP_ID).": (
        "kafka-consumer-groups. Без аргументов: отставание группы воркеров (--describe --group KAFKA_APP_ID)."
    ),
    "kafka-console-producer: reads `key|value` lines from standard input.": (
        "kafka-console-producer: читает строки `key|value` со стандартного ввода."
    ),
    "kafka-topics: without arguments --list; for example --describe --topic vision.posts.": (
        "kafka-topics: без аргументов --list; например, --describe --topic vision.posts."
    ),
}
