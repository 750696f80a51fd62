"""What is wrong with settings."""

RU = {
    "{variable}{suffix}: {variable} is set as well; remove one of them": (
        "{variable}{suffix}: {variable} тоже задана; уберите одну из них"
    ),
    "{variable}: {path} cannot be read ({strerror}); check the path, the mount and its permissions": (
        "{variable}: {path} не читается ({strerror}); проверьте путь, подключение тома и права"
    ),
    "{variable}: {path} is not a text file in UTF-8; write only the secret into it": (
        "{variable}: {path} — не текстовый файл в UTF-8; запишите в него только секрет"
    ),
    "{variable}: {path} is larger than {max_bytes} kB; it must hold only the secret": (
        "{variable}: {path} больше {max_bytes} kB; в нём должен быть только секрет"
    ),
    "{variable}: {path} is empty; write the secret into it": "{variable}: {path} пуст; запишите в него секрет",
    "every id is taken as text, and travels as it came": "любой id принимается как текст и передаётся как пришёл",
    "what cannot be processed is always kept": "что нельзя обработать, всегда сохраняется",
    "nothing is decided by the Redis marks": "по отметкам в Redis ничего не решается",
    "the provider cannot count a picture's tokens; they are estimated from its size": (
        "провайдер не умеет считать токены картинки; они оцениваются по её размеру"
    ),
    "colours are part of the answer": "цвета — часть ответа",
    "prompts are versioned files (vision_app/prompts): a change must change the cache key": (
        "промпты — версионированные файлы (vision_app/prompts): изменение должно менять ключ кэша"
    ),
    "OCR is Tesseract; install it with the languages of VISION_OCR_LANGUAGES": (
        "OCR — это Tesseract; установите его с языками из VISION_OCR_LANGUAGES"
    ),
    "OCR is a fallback only, as the policy's fallback section says": (
        "OCR — только запасной путь, как сказано в разделе fallback политики"
    ),
    "what the budget cannot pay today waits and is analyzed later": (
        "на что сегодня не хватает бюджета, ждёт и анализируется позже"
    ),
    "answers are shared between equal pictures only, by sha256": "ответ общий только у одинаковых картинок, по sha256",
    "pictures are scaled, never cropped": "картинки уменьшаются, но не обрезаются",
    "there are no experiments": "экспериментов нет",
    "set VISION_OCR_FALLBACK_ENABLED": "задайте VISION_OCR_FALLBACK_ENABLED",
    "TLS is always verified; name the state's root certificate in GIGACHAT_CA_BUNDLE_FILE": (
        "TLS проверяется всегда; назовите корневой сертификат государства в GIGACHAT_CA_BUNDLE_FILE"
    ),
    (
        "must not have options that begin with ssl: TLS is always verified; begin it with rediss:// and name the "
        "files in REDIS_CA_FILE, REDIS_CERT_FILE and REDIS_KEY_FILE"
    ): (
        "не должна содержать параметров, начинающихся с ssl: TLS проверяется всегда; начните с rediss:// и "
        "назовите файлы в REDIS_CA_FILE, REDIS_CERT_FILE и REDIS_KEY_FILE"
    ),
    "must be host:port, several separated by commas, without a scheme, user or password": (
        "должна быть host:port, несколько через запятую, без схемы, имени и пароля"
    ),
    (
        "VISION_API_HOST is not a loopback address and nobody would have to authenticate; set "
        "VISION_API_TOKENS=token=tenant,… or, if something in front authenticates, VISION_API_AUTH=off"
    ): (
        "VISION_API_HOST — не локальный адрес, и никто не должен был бы подтверждать себя; задайте "
        "VISION_API_TOKENS=token=tenant,… или, если доступ проверяет что-то перед сервисом, VISION_API_AUTH=off"
    ),
    (
        "VISION_API_TOKENS is set and VISION_API_AUTH=off says that nobody needs a token; remove "
        "VISION_API_AUTH=off to have the tokens checked, or VISION_API_TOKENS to leave the API open"
    ): (
        "VISION_API_TOKENS задана, а VISION_API_AUTH=off говорит, что токен никому не нужен; уберите "
        "VISION_API_AUTH=off, чтобы токены проверялись, или VISION_API_TOKENS, чтобы API осталось открытым"
    ),
    (
        "VISION_API_AUTH=on and there are no tokens, so that nobody could be let in or kept out; set "
        "VISION_API_TOKENS=token=tenant,token=* or remove VISION_API_AUTH"
    ): (
        "VISION_API_AUTH=on, а токенов нет, поэтому никого нельзя ни пустить, ни не пустить; задайте "
        "VISION_API_TOKENS=token=tenant,token=* или уберите VISION_API_AUTH"
    ),
    "KAFKA_SECURITY_PROTOCOL={protocol} needs {missing}; set them, or another protocol": (
        "для KAFKA_SECURITY_PROTOCOL={protocol} нужны {missing}; задайте их или другой протокол"
    ),
    (
        "{ignored} would not be used with KAFKA_SECURITY_PROTOCOL={protocol}; set it to SASL_SSL (or "
        "SASL_PLAINTEXT, without TLS), or remove them"
    ): (
        "с KAFKA_SECURITY_PROTOCOL={protocol} не используется: {ignored}; задайте SASL_SSL (или SASL_PLAINTEXT без "
        "TLS) или уберите"
    ),
    "{ignored} would not be used with KAFKA_SECURITY_PROTOCOL={protocol}; set it to SSL or SASL_SSL, or remove them": (
        "с KAFKA_SECURITY_PROTOCOL={protocol} не используется: {ignored}; задайте SSL или SASL_SSL или уберите"
    ),
    "KAFKA_CERT_FILE and KAFKA_KEY_FILE belong together; set both or none": (
        "KAFKA_CERT_FILE и KAFKA_KEY_FILE задаются вместе; задайте обе или ни одной"
    ),
    "KAFKA_KEY_PASSWORD is set and KAFKA_KEY_FILE is not; set both or remove the password": (
        "KAFKA_KEY_PASSWORD задана, а KAFKA_KEY_FILE нет; задайте обе или уберите пароль"
    ),
    (
        "VISION_GRANT_KEY is not set and S3_AUTH=role leaves no secret key to sign the ledger's grants with; set "
        "it to a random text, the same on all workers"
    ): (
        "VISION_GRANT_KEY не задана, а с S3_AUTH=role нет секретного ключа, чтобы подписывать гранты учёта; "
        "задайте случайный текст, один на всех воркерах"
    ),
    "{name} is set and REDIS_URL does not use it; begin it with rediss://": (
        "{name} задана, а REDIS_URL её не использует; начните его с rediss://"
    ),
    "REDIS_SENTINELS is set and REDIS_SENTINEL_MASTER is not; set it to the name that the Sentinels watch": (
        "REDIS_SENTINELS задана, а REDIS_SENTINEL_MASTER нет; задайте имя, за которым следят Sentinel"
    ),
    (
        "REDIS_SENTINEL_MASTER or REDIS_SENTINEL_PASSWORD is set and REDIS_SENTINELS is not; set it to the "
        "Sentinels' addresses, host:port, separated by commas, or remove the others"
    ): (
        "REDIS_SENTINEL_MASTER или REDIS_SENTINEL_PASSWORD задана, а REDIS_SENTINELS нет; задайте адреса Sentinel, "
        "host:port через запятую, или уберите остальные"
    ),
    "REDIS_SENTINELS is set and REDIS_URL is a socket of this machine; begin it with redis:// or rediss://": (
        "REDIS_SENTINELS задана, а REDIS_URL — сокет этой машины; начните его с redis:// или rediss://"
    ),
    (
        "DATABASE_PGBOUNCER is set and DATABASE_SESSION_URL is not; set it to the database without pgbouncer, or "
        "to one of pgbouncer's in session mode"
    ): (
        "DATABASE_PGBOUNCER задана, а DATABASE_SESSION_URL нет; задайте базу без pgbouncer или pgbouncer в режиме "
        "session"
    ),
    "NEO4J_CA_FILE is set and NEO4J_URI does not use it; begin it with neo4j+s:// or bolt+s://": (
        "NEO4J_CA_FILE задана, а NEO4J_URI её не использует; начните его с neo4j+s:// или bolt+s://"
    ),
    (
        "KAFKA_MIN_INSYNC_REPLICAS={kafka_min_insync_replicas} is more than "
        "KAFKA_TOPIC_REPLICATION_FACTOR={kafka_topic_replication_factor}: no write could succeed"
    ): (
        "KAFKA_MIN_INSYNC_REPLICAS={kafka_min_insync_replicas} больше, чем "
        "KAFKA_TOPIC_REPLICATION_FACTOR={kafka_topic_replication_factor}: ни одна запись не удалась бы"
    ),
    (
        "S3_CLEANUP_TARGET_GB, S3_EMERGENCY_THRESHOLD_GB and S3_TOTAL_LIMIT_GB must not fall in this order: they "
        "are {s3_cleanup_target_gb:g}, {s3_emergency_threshold_gb:g} and {s3_total_limit_gb:g}"
    ): (
        "S3_CLEANUP_TARGET_GB, S3_EMERGENCY_THRESHOLD_GB и S3_TOTAL_LIMIT_GB не должны убывать в этом порядке; "
        "сейчас: {s3_cleanup_target_gb:g}, {s3_emergency_threshold_gb:g} и {s3_total_limit_gb:g}"
    ),
    "{name} is set and {partner} is not; set both, or neither": (
        "{name} задана, а {partner} нет; задайте обе или ни одной"
    ),
    (
        "{one} comes from the {origin} and {other} from the {other_origin}, so they hardly belong together; set "
        "both in the same place"
    ): (
        "{one} взята из «{origin}», а {other} из «{other_origin}», вряд ли они подходят друг другу; задайте обе в "
        "одном месте"
    ),
    "must start with one of {allowed}": "должна начинаться с одного из: {allowed}",
    "must be auto, or a number from 1 on": "должна быть auto или число от 1",
    "must be a host name or an address alone, without scheme and port": (
        "должна быть только именем хоста или адресом, без схемы и порта"
    ),
    "must be host:port, separated by commas, and not {address!r}": (
        "должна быть host:port через запятую, а не {address!r}"
    ),
    "must be token=tenant,token=* (each with a token and a tenant, * for all tenants)": (
        "должна быть token=tenant,token=* (в каждой паре токен и тенант, * — все тенанты)"
    ),
    "has a token twice; give each tenant a token of its own": "содержит один токен дважды; дайте каждому тенанту свой",
    "must be model=roubles,model=roubles, for example GigaChat-Pro=1.5 (per 1,000 tokens)": (
        "должна быть model=рубли,model=рубли, например GigaChat-Pro=1.5 (за 1 000 токенов)"
    ),
    "has two prices for {model}; give one": "содержит две цены для {model}; задайте одну",
    "is not a URL; in a password write / as %2F, ? as %3F, # as %23, @ as %40, [ as %5B, ] as %5D": (
        "не URL; в пароле пишите / как %2F, ? как %3F, # как %23, @ как %40, [ как %5B, ] как %5D"
    ),
    "must not contain a user or a password: it is shown in logs; there are settings for them": (
        "не должна содержать имя или пароль: она видна в логах; для них есть отдельные настройки"
    ),
    "must be name=value,name=value, with values encoded as in URLs": (
        "должна быть name=value,name=value, значения кодируются как в URL"
    ),
    "has a line end or another control character; write it on one line": (
        "содержит перевод строки или другой управляющий символ; запишите в одну строку"
    ),
    "must be scheme://host:port, without spaces": "должно быть вида схема://хост:порт, без пробелов",
    "VISION_EVENT_LOOP: uvloop cannot be imported ({fault}); install it, or set asyncio": (
        "VISION_EVENT_LOOP: uvloop не импортируется ({fault}); установите его или задайте asyncio"
    ),
}
