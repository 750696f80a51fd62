"""What the checks, the embedded services and the supervisor say."""

from .forms import Forms

RU: dict[str, str | Forms] = {
    "preparing": "готовится",
    "started": "запущен",
    "stopping": "останавливается",
    "simulated": "имитируется",
    "real": "настоящий",
    (
        "behind a company's own authority, name its file of certificates: SSL_CERT_FILE=/path/ca.pem or "
        "REQUESTS_CA_BUNDLE=/path/ca.pem"
    ): (
        "если вы за собственным центром сертификации организации, назовите его файл сертификатов: "
        "SSL_CERT_FILE=/path/ca.pem или REQUESTS_CA_BUNDLE=/path/ca.pem"
    ),
    "{variable}={path} is no file of certificates in PEM format: {error}": (
        "{variable}={path} — не файл сертификатов в формате PEM: {error}"
    ),
    "disk": "диск",
    "{free:.1f} GB free at {folder}; free at least 1 GB, or set VISION_HOME elsewhere": (
        "свободно {free:.1f} GB в {folder}; освободите не меньше 1 GB или задайте VISION_HOME в другом месте"
    ),
    "{free:.0f} GB free at {folder}": "свободно {free:.0f} GB в {folder}",
    "supervisor": "супервизор",
    "reports each second (pid {pid})": "отчитывается каждую секунду (pid {pid})",
    "its last report is {age:.0f} s old: it is frozen, or it cannot write {path}; free disk space there, see "
    "`vision logs supervisor`, or restart it: `vision down`, then `vision up`": (
        "последнему отчёту {age:.0f} с: он завис или не может записать {path}; освободите там место на диске, "
        "посмотрите `vision logs supervisor` или перезапустите: `vision down`, затем `vision up`"
    ),
    "memory": "память",
    "{available:.1f} GB available, the stack takes up to 2.5 GB; close other programs": (
        "свободно {available:.1f} GB, стек занимает до 2.5 GB; закройте другие программы"
    ),
    "{available:.1f} GB available": "свободно {available:.1f} GB",
    "{name} program": "программа {name}",
    "{name} jars": "jar-файлы {name}",
    "in {cache_folder}": "в {cache_folder}",
    "not downloaded yet; `vision up` does it, which needs a network connection once": (
        "ещё не скачаны; скачает `vision up`, один раз нужна сеть"
    ),
    "port {port}": "порт {port}",
    "free": "свободен",
    "used by our worker": "занят нашим воркером",
    "used by a worker that `vision up` did not start ({describe_holder})": (
        "занят воркером, которого запустил не `vision up` ({describe_holder})"
    ),
    "used by {describe_holder}; stop it or set {variable} to another port": (
        "занят: {describe_holder}; остановите его или задайте в {variable} другой порт"
    ),
    "not running; start it with `vision up`": "не работает; запустить — `vision up`",
    "no answer within {probe_seconds:.0f} s; check that it runs at the address `vision config` shows": (
        "нет ответа за {probe_seconds:.0f} с; проверьте, что он работает по адресу из `vision config`"
    ),
    "OCR is off; install it with: apt-get install tesseract-ocr tesseract-ocr-rus": (
        "OCR выключен; установите: apt-get install tesseract-ocr tesseract-ocr-rus"
    ),
    "not found: {remedy}": "не найден: {remedy}",
    "has no data for {missing}: {remedy}": "нет данных для {missing}: {remedy}",
    "{program} with {languages}": "{program} с языками {languages}",
    "OCR in the worker": "OCR в воркере",
    "Tesseract can be run": "Tesseract запускается",
    "Tesseract has gone or was never there: what has no money waits; install it, the worker notices in a minute": (
        "Tesseract исчез или его не было: то, на что нет денег, ждёт; установите его, воркер заметит через минуту"
    ),
    "{name} is set but has no effect: {why}": "{name} задана, но не действует: {why}",
    "FEATURE_VISION_ENABLED is false: no input is read, posts wait on the streams; set it to true to go on": (
        "FEATURE_VISION_ENABLED=false: входы не читаются, посты ждут в потоках; чтобы продолжить, задайте true"
    ),
    "all values can be used; see `vision config`": "все значения годятся; см. `vision config`",
    "The disk is full: free at least 1 GB": "Диск полон: освободите не меньше 1 GB",
    "Another program took the port: `vision down`, then `vision up` chooses a free one": (
        "Порт заняла другая программа: `vision down`, затем `vision up` выберет свободный"
    ),
    "There is too little memory: the stack takes about 1.5 GB": "Мало памяти: стек занимает около 1.5 GB",
    "{workers} workers": Forms(
        "workers",
        "{workers} воркер",
        "{workers} воркера",
        "{workers} воркеров",
    ),
    "there is no worker {numbers}; there are {known}, and `vision up --workers N` runs N": (
        "воркера {numbers} нет; есть {known}, а `vision up --workers N` запустит N"
    ),
    "the {action} of worker {numbers}": "{action} воркера {numbers}",
    "`vision up` runs nothing here, so there is no worker to order about; start it with `vision up`": (
        "здесь `vision up` ничего не запускал, поэтому управлять некем; запустить — `vision up`"
    ),
    "{what}: not done after {seconds:.0f} s; `vision status` shows what runs, the log of the supervisor why: {log}": (
        "{what}: не готово за {seconds:.0f} с; что работает, показывает `vision status`, почему — лог супервизора: "
        "{log}"
    ),
    "the supervisor ended with exit code {code}: {tail} (log: {log})": (
        "супервизор завершился с кодом {code}: {tail} (лог: {log})"
    ),
    "the supervisor ended before everything was ready; see {log}": (
        "супервизор завершился раньше, чем всё было готово; см. {log}"
    ),
    "does not start: {last_error}{remedy}": "не запускается: {last_error}{remedy}",
    "is not ready after {seconds:.0f} s: {detail}": "не готов через {seconds:.0f} с: {detail}",
    (
        "{name} {what}\nLog: {log} (`vision logs {name}`). The supervisor keeps trying; `vision doctor` looks for "
        "the cause, `vision down` stops everything."
    ): (
        "{name} {what}\nЛог: {log} (`vision logs {name}`). Супервизор продолжает попытки; причину ищет `vision "
        "doctor`, всё останавливает `vision down`."
    ),
    "{name}: {last_error} (log: {log})": "{name}: {last_error} (лог: {log})",
    "not everything is ready after {timeout:.0f} s; `vision doctor` looks for the cause.": (
        "за {timeout:.0f} с готово не всё; причину ищет `vision doctor`."
    ),
    "downloading jars: {done} of {files}, {have:.0f} of {bytes:.0f} MB, {seconds:.0f} s": (
        "скачиваются jar-файлы: {done} из {files}, {have:.0f} из {bytes:.0f} МБ, {seconds:.0f} с"
    ),
    (
        "{filename} as downloaded is not the file this version was tested with (its SHA-256 differs); check the "
        "mirror or proxy in between ({variable}, HTTPS_PROXY) and run `vision up` again"
    ): (
        "скачанный {filename} — не тот файл, с которым проверялась эта версия (другой SHA-256); проверьте зеркало "
        "или прокси по пути ({variable}, HTTPS_PROXY) и запустите `vision up` снова"
    ),
    "cannot download {filename}: {cause}": "не удалось скачать {filename}: {cause}",
    "{what}. The server's certificate is not trusted here; {hint}. Then run `vision up` again": (
        "{what}. Сертификату сервера здесь не доверяют; {hint}. Затем запустите `vision up` снова"
    ),
    "cannot download {filename}: {host} answered {status}": "не удалось скачать {filename}: {host} ответил {status}",
    (
        "{what}. Check the network connection and proxy (HTTPS_PROXY, NO_PROXY), or set {variable} to a Maven "
        "mirror you can reach; then run `vision up` again: what is downloaded already is kept"
    ): (
        "{what}. Проверьте сеть и прокси (HTTPS_PROXY, NO_PROXY) или задайте в {variable} доступное вам зеркало "
        "Maven; затем запустите `vision up` снова: скачанное сохраняется"
    ),
    "the Python package {package} is missing; install it with: pip install 'vision-app[stack]'": (
        "нет пакета Python {package}; установите: pip install 'vision-app[stack]'"
    ),
    (
        "the data here is of {stored} Kafka broker(s), not of {brokers}: start with `vision up --brokers "
        "{stored}`, or set VISION_HOME to another folder, or delete all that Kafka holds: rm -r {folders}"
    ): Forms(
        "stored",
        "данные здесь от {stored} брокера Kafka, а не от {brokers}: запустите `vision up --brokers {stored}`, "
        "или задайте VISION_HOME в другом месте, или удалите всё, что хранит Kafka: rm -r {folders}",
        "данные здесь от {stored} брокеров Kafka, а не от {brokers}: запустите `vision up --brokers {stored}`, "
        "или задайте VISION_HOME в другом месте, или удалите всё, что хранит Kafka: rm -r {folders}",
        "данные здесь от {stored} брокеров Kafka, а не от {brokers}: запустите `vision up --brokers {stored}`, "
        "или задайте VISION_HOME в другом месте, или удалите всё, что хранит Kafka: rm -r {folders}",
    ),
    "formatting the storage": "форматируется хранилище",
    "formatting Kafka's storage": "форматирование хранилища Kafka",
    "the broker to join its cluster": "вход брокера в кластер",
    "the brokers to join their cluster: {joined} of {brokers} have": (
        "вход брокеров в кластер: вошли {joined} из {brokers}"
    ),
    "setting the password": "задаётся пароль",
    "setting Neo4j's password": "установка пароля Neo4j",
    "the Bolt port to open": "открытие порта Bolt",
    "no free port from {first} to {last}; stop what listens there, or set {variable}": (
        "нет свободного порта с {first} по {last}; остановите то, что их занимает, или задайте {variable}"
    ),
    "{variable}={given} is no range of ports; write it as {chosen_from}, or leave it out": (
        "{variable}={given} — не диапазон портов; напишите как {chosen_from} или не задавайте"
    ),
    "port {port} is used by {holder}; {remedy}": "порт {port} занят: {holder}; {remedy}",
    "another process": "другой процесс",
    "pid {pid} ({program})": "pid {pid} ({program})",
    "pid {pid}": "pid {pid}",
    "initialising the database": "создаётся база данных",
    "the port to open": "открытие порта",
    "making the user {user}, as Postgres refuses root": (
        "создание пользователя {user}, потому что Postgres не работает от root"
    ),
    "answers; it does not tell its maxmemory-policy: see that it is noeviction, or Redis may throw entries away": (
        "отвечает; не говорит свою maxmemory-policy: проверьте, что она noeviction, иначе Redis может выбросить записи"
    ),
    (
        "maxmemory-policy is {policy}, so Redis may throw stream entries away; run redis-cli CONFIG SET "
        "maxmemory-policy noeviction and put it into its configuration"
    ): (
        "maxmemory-policy — {policy}, поэтому Redis может выбросить записи потоков; выполните redis-cli CONFIG SET "
        "maxmemory-policy noeviction и впишите это в его конфигурацию"
    ),
    "answers, never evicts": "отвечает, ничего не вытесняет",
    "{cause}; check KAFKA_BOOTSTRAP_SERVERS and that the broker runs": (
        "{cause}; проверьте KAFKA_BOOTSTRAP_SERVERS и что брокер работает"
    ),
    "answers; the worker makes its topics when it starts, or `vision migrate repair` does": (
        "отвечает; топики создаст воркер при запуске или `vision migrate repair`"
    ),
    (
        "topics are missing: {missing}; `vision migrate repair` makes them anew, without what was in them; then "
        "restart the workers (`vision down`, `vision up`)"
    ): (
        "нет топиков: {missing}; `vision migrate repair` создаст их заново, без того, что в них было; затем "
        "перезапустите воркеры (`vision down`, `vision up`)"
    ),
    "answers; {weaker}": "отвечает; {weaker}",
    ", each stored {copies} times": Forms(
        "copies",
        ", каждый хранится в {copies} копии",
        ", каждый хранится в {copies} копиях",
        ", каждый хранится в {copies} копиях",
    ),
    "answers, {topics} topics, all of ours among them{stored}": Forms(
        "topics",
        "отвечает, {topics} топик, все наши на месте{stored}",
        "отвечает, {topics} топика, все наши на месте{stored}",
        "отвечает, {topics} топиков, все наши на месте{stored}",
    ),
    "answers, version {version}, tables can be made": "отвечает, версия {version}, таблицы можно создать",
    "{wrong}; `vision migrate status` shows everything": "{wrong}; всё покажет `vision migrate status`",
    "the table schema_migrations is missing": "нет таблицы schema_migrations",
    "{what}; `vision migrate repair` puts it back, without the rows that were in it": (
        "{what}; вернёт `vision migrate repair`, без строк, которые в ней были"
    ),
    (
        "answers, version {version}; to be applied: {pending}; the worker does it when it starts, or `vision "
        "migrate apply` does"
    ): (
        "отвечает, версия {version}; нужно применить: {pending}; это сделает воркер при запуске или `vision "
        "migrate apply`"
    ),
    "answers, version {version}, all tables are there; {doubt}": (
        "отвечает, версия {version}, все таблицы на месте; {doubt}"
    ),
    "answers, version {version}, all tables are there": "отвечает, версия {version}, все таблицы на месте",
    "there is no bucket {s3_bucket}; `vision migrate repair` makes it, or correct S3_BUCKET": (
        "бакета {s3_bucket} нет; его создаст `vision migrate repair`, или исправьте S3_BUCKET"
    ),
    "check S3_ENDPOINT_URL, the keys and that the bucket S3_BUCKET exists": (
        "проверьте S3_ENDPOINT_URL, ключи и что бакет S3_BUCKET есть"
    ),
    "bucket {s3_bucket}: {text}": "бакет {s3_bucket}: {text}",
    "answers, bucket {s3_bucket} is there": "отвечает, бакет {s3_bucket} на месте",
    (
        "{neo4j_user} is refused; NEO4J_PASSWORD must be the one that its data was made with (the embedded one: "
        "`changeme`, or what was set at the first `vision up`)"
    ): (
        "{neo4j_user}: отказано; NEO4J_PASSWORD должен быть тем, с которым созданы его данные (у встроенного: "
        "`changeme` или заданный при первом `vision up`)"
    ),
    "answers, the password is right": "отвечает, пароль верный",
    "{kind}, reachable at {url} (status {status}); the credentials are accepted": (
        "{kind}, доступен по адресу {url} (статус {status}); доступ принят"
    ),
    "no access token: {cause}": "нет токена доступа: {cause}",
    "loading its data": "загрузка своих данных",
    "stop it, or stop this stack with `vision down`; `vision up` then chooses another port": (
        "остановите его или этот стек командой `vision down`; тогда `vision up` выберет другой порт"
    ),
    "{doing} needs the program {command}, which is not installed": (
        "{doing}: нужна программа {command}, она не установлена"
    ),
    "{doing} failed with exit code {returncode}: {output}": "{doing}: код завершения {returncode}: {output}",
    "GET /healthz to answer 200": "ответ 200 на GET /healthz",
    "waiting for {name}": "ждёт: {name}",
    "starting again in {backoff:.0f} s": "запустится снова через {backoff:.0f} с",
    "waiting for {missing}": "ждёт: {missing}",
    "not ready after {start_seconds:.0f} s, still waiting for {missing}": (
        "не готов через {start_seconds:.0f} с, всё ещё ждёт: {missing}"
    ),
    "cannot tell whether it is ready: {error!r}": "нельзя понять, готов ли он: {error!r}",
    "ended by SIGKILL": "завершён сигналом SIGKILL",
    "by {name}": "сигналом {name}",
    "with exit code {code}": "с кодом {code}",
    "ended {how}{last_words}": "завершился {how}{last_words}",
    "the API to answer": "ответ API",
    "GET /readyz says {status}: {reason}": "GET /readyz отвечает {status}: {reason}",
    "stop it or set {variable} to another port": "остановите его или задайте в {variable} другой порт",
}
