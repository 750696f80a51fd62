"""Help of the laboratory's commands: demo, soak, bench."""

RU = {
    "Start the stack, send posts of two invented tenants through it, and check the results in every store.": (
        "Запустить стек, провести через него посты двух выдуманных тенантов и проверить результаты во всех хранилищах."
    ),
    "Exit code 0 only if every post ended as expected.": (
        "Код завершения 0, только если каждый пост закончился как ожидалось."
    ),
    "Leave the stack running (default; also after Ctrl-C), or stop it.": (
        "Оставить стек работать (по умолчанию; также после Ctrl-C) или остановить."
    ),
    "One JSON document on stdout; progress goes to stderr.": "Один документ JSON в stdout; ход работы — в stderr.",
    "Agree to pay for tokens when the real GigaChat is configured.": (
        "Согласиться платить за токены, если настроен настоящий GigaChat."
    ),
    "How many workers.": "Сколько воркеров.",
    "Seconds for all posts.": "Секунд на все посты.",
    "SIGKILL a worker in the middle.": "Убить воркер (SIGKILL) посередине.",
    "Send posts for some minutes while workers are killed and services fail, then check the results.": (
        "Несколько минут отправлять посты, пока воркеры убивают, а сервисы отказывают, затем проверить результаты."
    ),
    (
        "With three brokers they are killed, cut off from each other, frozen and restarted, too: the active "
        "controller once, and all in turn once. Runs on its own services beside those of `vision up`; GigaChat is "
        "simulated. Exit code 0 only if every input ended exactly once, nothing was published twice and no budget "
        "was overspent."
    ): (
        "С тремя брокерами их тоже убивают, отрезают друг от друга, замораживают и перезапускают: действующий "
        "контроллер один раз и всех по очереди один раз. Работает на собственных сервисах рядом с сервисами "
        "`vision up`; GigaChat имитируется. Код завершения 0, только если каждый вход завершился ровно один раз, "
        "ничего не опубликовано дважды и ни один бюджет не превышен."
    ),
    "Of traffic.": "Столько минут идёт поток постов.",
    "Spread over the minutes.": "Распределены по этим минутам.",
    "SIGKILLs at random moments.": "SIGKILL в случайные моменты.",
    "SIGTERMs at random moments.": "SIGTERM в случайные моменты.",
    "SIGSTOPs longer than the session.": "SIGSTOP дольше сессии.",
    "Each service once; 0: none.": "Каждый сервис один раз; 0 — ни разу.",
    "Of Kafka.": "Сколько брокеров Kafka.",
    "SIGKILLs of brokers, of three.": "SIGKILL брокеров, из трёх.",
    "Brokers cut off from the others for 20 s.": "Брокеры, отрезанные от остальных на 20 с.",
    "Its answers take their time, none goes wrong: what kills alone cost.": (
        "Его ответы не быстры, но ошибок нет: сколько стоят одни убийства."
    ),
    "Repeat a run; chosen and shown when not given.": "Повторить прогон; если не задано, выбирается и показывается.",
    "Minutes for the rest.": "Минут на остаток.",
    "Keep the run's folder (logs and data) also when all went well.": (
        "Сохранить папку прогона (логи и данные), даже если всё прошло хорошо."
    ),
    "Publish posts with new pictures at an even pace and measure how long each takes until it is announced.": (
        "Равномерно публиковать посты с новыми картинками и измерять, через сколько каждый объявлен."
    ),
    (
        "With --flood it measures once more after another tenant has published many posts at once. Runs on its own "
        "services beside those of `vision up`; GigaChat is simulated. Exit code 0 only if every post was analyzed "
        "and announced, and the p95 under flood is at most --max-ratio times the calm one."
    ): (
        "С --flood измеряет ещё раз, после того как другой тенант сразу опубликовал много постов. Работает на "
        "собственных сервисах рядом с сервисами `vision up`; GigaChat имитируется. Код завершения 0, только если "
        "каждый пост проанализирован и объявлен, а p95 под наплывом не больше спокойного в --max-ratio раз."
    ),
    "Measured, per phase.": "Измеряются, в каждой фазе.",
    "Seconds of the same load, not counted.": "Секунд той же нагрузки, которые не считаются.",
    "Posts a second, together.": "Постов в секунду, всех вместе.",
    "Posts of one more tenant, at once.": "Постов ещё одного тенанта, сразу.",
    "The provider's, in seconds.": "У провайдера, в секундах.",
    "With the page open.": "С открытой страницей.",
    "Of the p95 under flood to the calm one.": "p95 под наплывом к спокойному.",
    "Publish posts of each kind at once and measure posts a second and processor time.": (
        "Сразу публиковать посты каждого вида и измерять посты в секунду и процессорное время."
    ),
    (
        "The kinds: new pictures, known ones, skipped by policy, missing objects, duplicates, albums. Beside our "
        "worker runs a plain one, without any of our promises, on the same services. GigaChat is simulated and "
        "answers at once. Exit code 0 only if every post ended."
    ): (
        "Виды: новые картинки, известные, пропускаемые политикой, без объектов, повторы, альбомы. Рядом с нашим "
        "воркером на тех же сервисах работает простой, без наших гарантий. GigaChat имитируется и отвечает сразу. "
        "Код завершения 0, только если каждый пост завершился."
    ),
    "Of each kind, at once.": "Каждого вида, сразу.",
    "Posts before, not counted.": "Постов до этого, не считаются.",
    "Measure the plain worker, too.": "Измерить и простой воркер.",
    "Keep the run's folder (logs and data).": "Сохранить папку прогона (логи и данные).",
    "A folder for the stacks of each measurement, sampled by py-spy; a table sums them up.": (
        "Папка для стеков каждого измерения, снятых py-spy; таблица подводит итог."
    ),
    "Measure how fast it is: everything with one command, or one thing with all its options.": (
        "Измерить, насколько система быстра: всё одной командой или что-то одно со всеми параметрами."
    ),
    "Each command runs on its own services beside those of `vision up`; GigaChat is simulated.": (
        "Каждая команда работает на собственных сервисах рядом с сервисами `vision up`; GigaChat имитируется."
    ),
    "Run all scenarios, or those chosen, and show one table: ours, the plain worker, the ratio and the goal.": (
        "Выполнить все сценарии или выбранные и показать одну таблицу: наш воркер, простой, отношение и цель."
    ),
    (
        "relay: from Redis to Kafka, beside a plain relay. pace: new pictures, 4 and 9 a second. capacity: posts of "
        "each kind, published at once. scaling: 1, 2 and 3 workers. provider: its answers take 3 s; 3 workers, one of "
        "them killed, and 1 worker. replay: inputs sent again. letters: dead letters replayed. growth: with many "
        "posts in the tables: processor time, memory, restart. recovery: a restart with many open posts. sinks: each "
        "store, in batches beside one by one."
    ): (
        "relay: из Redis в Kafka, рядом с простым мостом. pace: новые картинки, 4 и 9 в секунду. capacity: посты "
        "каждого вида, опубликованные сразу. scaling: 1, 2 и 3 воркера. provider: его ответы длятся 3 с; 3 воркера, "
        "один из них убит, и 1 воркер. replay: входы, отправленные снова. letters: повтор dead letters. growth: много "
        "постов в таблицах: процессорное время, память, перезапуск. recovery: перезапуск со многими открытыми "
        "постами. sinks: каждое хранилище, пачками и рядом по одному."
    ),
    (
        "Sizes unless given: relay=5000 pace=15 capacity=200 scaling=200 provider=100 replay=2000 letters=200 "
        "growth=5000,100000 recovery=10000 sinks=1000. They count posts, of pace seconds, of relay entries, of sinks "
        "results."
    ): (
        "Размеры, если не заданы: relay=5000 pace=15 capacity=200 scaling=200 provider=100 replay=2000 letters=200 "
        "growth=5000,100000 recovery=10000 sinks=1000. Это посты; у pace — секунды, у relay — записи потока, у sinks — "
        "результаты."
    ),
    (
        "With --compare it compares what does not depend on the machine: ratios to the plain worker, and other figures "
        "in units of its processor time for a new picture. Exit code 0 only if all work ended and no figure is worse "
        "than before by more than --tolerance."
    ): (
        "С --compare сравнивается то, что не зависит от машины: отношения к простому воркеру, а другие числа — в "
        "единицах его процессорного времени на новую картинку. Код завершения 0, только если вся работа завершилась и "
        "ни одно число не хуже прежнего больше чем на --tolerance."
    ),
    "Only this; may be repeated.": "Только этот; можно повторять.",
    "Of a scenario, for example growth=1000,100000.": "Сценария, например growth=1000,100000.",
    "Each on fresh services.": "Каждый на новых сервисах.",
    "The --json document of an earlier run, also of another machine.": (
        "Документ --json прежнего прогона, можно с другой машины."
    ),
    "Per cent that may be worse.": "На сколько процентов может быть хуже.",
}
