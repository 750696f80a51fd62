"""What the clients of the services and the stores say when something is wrong."""

from .forms import Forms

RU: dict[str, str | Forms] = {
    "{title}: the host name cannot be resolved; check {address_variable}": (
        "{title}: имя машины не определяется; проверьте {address_variable}"
    ),
    "{title}: nothing listens at the address; check {address_variable} and that it runs": (
        "{title}: по этому адресу никто не слушает; проверьте {address_variable} и что сервис работает"
    ),
    (
        "{title}: the server closes the connection; check {address_variable}, whether the server expects TLS on "
        "this port, and whether it wants a client certificate"
    ): (
        "{title}: сервер закрывает соединение; проверьте {address_variable}, не ждёт ли сервер на этом порту TLS и "
        "не нужен ли клиентский сертификат"
    ),
    "{title}: no answer in time; check {address_variable}, the network and that it runs": (
        "{title}: нет ответа вовремя; проверьте {address_variable}, сеть и что сервис работает"
    ),
    (
        "{title}: the server's certificate is for another host name ({verify_message}); use the name in the "
        "certificate in {address_variable}, or have the certificate issued for this name"
    ): (
        "{title}: сертификат сервера выдан для другого имени машины ({verify_message}); укажите в "
        "{address_variable} имя из сертификата или выпустите сертификат для этого имени"
    ),
    "{title}: the server's certificate has expired; renew it on the server": (
        "{title}: срок сертификата сервера истёк; обновите его на сервере"
    ),
    "{title}: the server's certificate is not valid yet; check the clocks of both machines": (
        "{title}: сертификат сервера ещё не действует; проверьте часы обеих машин"
    ),
    "{title}: the server's certificate was revoked; renew it on the server": (
        "{title}: сертификат сервера отозван; обновите его на сервере"
    ),
    (
        "{title}: the server's certificate is signed by an authority that is not trusted here ({verify_message}); "
        "name the authority's file in {variable}"
    ): (
        "{title}: сертификат сервера подписан центром, которому здесь не доверяют ({verify_message}); укажите файл "
        "этого центра в {variable}"
    ),
    "{title}: the server does not speak TLS on this port; check the port in {address_variable}, or switch TLS off": (
        "{title}: сервер на этом порту не использует TLS; проверьте порт в {address_variable} или выключите TLS"
    ),
    (
        "{title}: the server refuses our client certificate, or wants one; set {variables}_CERT_FILE and "
        "{variables}_KEY_FILE to one that its authority has signed"
    ): (
        "{title}: сервер не принимает наш клиентский сертификат или требует его; задайте {variables}_CERT_FILE и "
        "{variables}_KEY_FILE с подписью его центра"
    ),
    "{title}: TLS failed ({reason}); check versions and ciphers of the server": (
        "{title}: ошибка TLS ({reason}); проверьте версии и шифры сервера"
    ),
    "GIGACHAT_CA_BUNDLE_FILE: {name} is not a readable PEM file ({fault})": (
        "GIGACHAT_CA_BUNDLE_FILE: {name} — нечитаемый файл PEM ({fault})"
    ),
    "GigaChat: the proxy refuses ({fault}); check user and password in GIGACHAT_PROXY_URL or HTTPS_PROXY": (
        "GigaChat: прокси отказывает ({fault}); проверьте имя и пароль в GIGACHAT_PROXY_URL или HTTPS_PROXY"
    ),
    "{kind}: {fault}; check the network, {address_variable}": "{kind}: {fault}; проверьте сеть, {address_variable}",
    "the broker tells its clients to use {host}:{port} (advertised.listeners). {reason}": (
        "брокер велит клиентам использовать {host}:{port} (advertised.listeners). {reason}"
    ),
    (
        "Kafka: user {user} is refused with {mechanism}; check KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD and that "
        "the user was made for KAFKA_SASL_MECHANISM"
    ): (
        "Kafka: пользователю {user} отказано по {mechanism}; проверьте KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD и "
        "что пользователь создан для KAFKA_SASL_MECHANISM"
    ),
    (
        "Kafka: the broker does not accept {mechanism} here, only {others}; change KAFKA_SASL_MECHANISM, or the "
        "port in KAFKA_BOOTSTRAP_SERVERS"
    ): (
        "Kafka: брокер здесь не принимает {mechanism}, только {others}; измените KAFKA_SASL_MECHANISM или порт в "
        "KAFKA_BOOTSTRAP_SERVERS"
    ),
    (
        "Kafka: the broker takes no user and password on this port; check the port in KAFKA_BOOTSTRAP_SERVERS, or "
        "set KAFKA_SECURITY_PROTOCOL={without}"
    ): (
        "Kafka: брокер на этом порту не принимает имя и пароль; проверьте порт в KAFKA_BOOTSTRAP_SERVERS или "
        "задайте KAFKA_SECURITY_PROTOCOL={without}"
    ),
    (
        "Kafka: the broker speaks TLS on this port; check the port in KAFKA_BOOTSTRAP_SERVERS, or set "
        "KAFKA_SECURITY_PROTOCOL={secure}"
    ): (
        "Kafka: брокер на этом порту использует TLS; проверьте порт в KAFKA_BOOTSTRAP_SERVERS или задайте "
        "KAFKA_SECURITY_PROTOCOL={secure}"
    ),
    (
        "Kafka: the broker does not speak TLS on this port; check the port in KAFKA_BOOTSTRAP_SERVERS, or set "
        "KAFKA_SECURITY_PROTOCOL={protocol}"
    ): (
        "Kafka: брокер на этом порту не использует TLS; проверьте порт в KAFKA_BOOTSTRAP_SERVERS или задайте "
        "KAFKA_SECURITY_PROTOCOL={protocol}"
    ),
    (
        "Kafka: the broker wants a user and a password on this port; set KAFKA_SECURITY_PROTOCOL={needed}, "
        "KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD, or check the port in KAFKA_BOOTSTRAP_SERVERS"
    ): (
        "Kafka: брокер на этом порту требует имя и пароль; задайте KAFKA_SECURITY_PROTOCOL={needed}, "
        "KAFKA_SASL_USERNAME и KAFKA_SASL_PASSWORD или проверьте порт в KAFKA_BOOTSTRAP_SERVERS"
    ),
    "user {sasl_plain_username}": "пользователю {sasl_plain_username}",
    "user ANONYMOUS": "пользователю ANONYMOUS",
    "user of our certificate": "пользователю из нашего сертификата",
    "Kafka: the {user} lacks rights: {what}; grant them as docs/connecting.md (Kafka) lists them": (
        "Kafka: {user} не хватает прав: {what}; выдайте их, как сказано в docs/connecting.md (Kafka)"
    ),
    "{missing} on topic {name}": "{missing} на топик {name}",
    "{name} on group {group}": "{name} на группу {group}",
    "group {group} cannot be described": "группу {group} нельзя посмотреть",
    "Neo4j refuses the password of this user ({code}); check NEO4J_USER and NEO4J_PASSWORD": (
        "Neo4j не принимает пароль этого пользователя ({code}); проверьте NEO4J_USER и NEO4J_PASSWORD"
    ),
    "Neo4j: the user of NEO4J_USER lacks a right: {message}; have it granted": (
        "Neo4j: пользователю NEO4J_USER не хватает права: {message}; пусть его выдадут"
    ),
    "Neo4j: {message}; check NEO4J_DATABASE": "Neo4j: {message}; проверьте NEO4J_DATABASE",
    "Neo4j: {kind}: {fault}; check NEO4J_URI, NEO4J_USER and NEO4J_PASSWORD and that it runs": (
        "Neo4j: {kind}: {fault}; проверьте NEO4J_URI, NEO4J_USER и NEO4J_PASSWORD и что сервис работает"
    ),
    "run `vision migrate apply` with DATABASE_OWNER_URL": "запустите `vision migrate apply` с DATABASE_OWNER_URL",
    "encrypts, but does not verify the server's certificate: another server can pose as yours": (
        "шифрует, но не проверяет сертификат сервера: другой сервер может выдать себя за ваш"
    ),
    "does not compare the host name with the certificate: another server of this authority can pose as yours": (
        "не сравнивает имя машины с сертификатом: другой сервер этого центра может выдать себя за ваш"
    ),
    "{variable}: sslrootcert={path} cannot be used: not in PEM format": (
        "{variable}: sslrootcert={path} не годится: не в формате PEM"
    ),
    "{what} cannot be read ({strerror}); check path and permissions": (
        "{what}: не читается ({strerror}); проверьте путь и права"
    ),
    "sslmode={mode} {weakness}; write sslmode=verify-full&sslrootcert=FILE in DATABASE_URL": (
        "sslmode={mode} {weakness}; напишите в DATABASE_URL sslmode=verify-full&sslrootcert=ФАЙЛ"
    ),
    "sslrootcert=… of {variable}": "sslrootcert=… из {variable}",
    "Postgres: the server does not speak TLS; switch it on there, or leave sslmode out of {variable}": (
        "Postgres: сервер не использует TLS; включите его там или уберите sslmode из {variable}"
    ),
    "Postgres: {kind}: {text}; check {variable} and that Postgres runs": (
        "Postgres: {kind}: {text}; проверьте {variable} и что Postgres работает"
    ),
    "Postgres refuses the password of this user ({text}); check both in {variable}": (
        "Postgres не принимает пароль этого пользователя ({text}); проверьте то и другое в {variable}"
    ),
    "Postgres: {text}; name one that it trusts, for this user, with sslcert=… and sslkey=… in {variable}": (
        "Postgres: {text}; назовите сертификат, которому он доверяет для этого пользователя: sslcert=… и sslkey=… "
        "в {variable}"
    ),
    "Postgres takes only connections with TLS ({text}); write sslmode=verify-full&sslrootcert=FILE in {variable}": (
        "Postgres принимает только соединения с TLS ({text}); напишите в {variable} "
        "sslmode=verify-full&sslrootcert=ФАЙЛ"
    ),
    "Postgres lets this user not in ({text}); check the user in {variable}, and pg_hba.conf of the server": (
        "Postgres не пускает этого пользователя ({text}); проверьте пользователя в {variable} и pg_hba.conf на сервере"
    ),
    "Postgres: {text}; check the database's name in {variable}": "Postgres: {text}; проверьте имя базы в {variable}",
    "Postgres: {text}; {remedy}, which grants the worker its rights (docs/connecting.md lists them)": (
        "Postgres: {text}; {remedy}: это выдаст воркеру его права (перечислены в docs/connecting.md)"
    ),
    "Postgres: {text}; if {variable} leads to pgbouncer in transaction mode, set DATABASE_PGBOUNCER=true": (
        "Postgres: {text}; если {variable} ведёт к pgbouncer в режиме transaction, задайте DATABASE_PGBOUNCER=true"
    ),
    (
        "Redis: the server is part of a Redis Cluster, and our scripts touch keys of several hash slots; name a "
        "single server, or one with replicas and Sentinels, in REDIS_URL"
    ): (
        "Redis: сервер входит в Redis Cluster, а наши скрипты обращаются к ключам разных слотов; назовите в "
        "REDIS_URL один сервер или сервер с репликами и Sentinel"
    ),
    "no Sentinel names a master {service_name!r}": "ни один Sentinel не знает мастера {service_name!r}",
    "the user of REDIS_URL lacks rights: {missing}": "пользователю REDIS_URL не хватает прав: {missing}",
    "Redis: {cause}; have them granted, docs/connecting.md lists the least rights": (
        "Redis: {cause}; пусть их выдадут, наименьшие права — в docs/connecting.md"
    ),
    "Redis: a right is missing: {cause}; have it granted, docs/connecting.md lists the least rights": (
        "Redis: не хватает права: {cause}; пусть его выдадут, наименьшие права — в docs/connecting.md"
    ),
    "Redis: the Sentinels know no usable master of this name; check {given}, and the state of the servers": (
        "Redis: Sentinel не знают работающего мастера с этим именем; проверьте {given} и состояние серверов"
    ),
    "Redis: no Sentinel that answers names a usable master, check {given}; {told}": (
        "Redis: ни один из ответивших Sentinel не называет работающего мастера, проверьте {given}; {told}"
    ),
    "{title} refuses user or password ({fault}); check both in {password}": (
        "{title} не принимает имя или пароль ({fault}); проверьте то и другое в {password}"
    ),
    ", and that it speaks TLS on this port": ", и что на этом порту он использует TLS",
    "{title}: no answer in time; check {address_variable} and that it runs{doubt}": (
        "{title}: нет ответа вовремя; проверьте {address_variable} и что сервис работает{doubt}"
    ),
    (
        "{title}: the server closes the connection; check {address_variable}, and whether the server expects TLS "
        "on this port (rediss://)"
    ): (
        "{title}: сервер закрывает соединение; проверьте {address_variable} и не ждёт ли сервер на этом порту TLS "
        "(rediss://)"
    ),
    "{title}: {kind}: {fault}; check {address_variable}, and memory and state of the server": (
        "{title}: {kind}: {fault}; проверьте {address_variable}, память и состояние сервера"
    ),
    "{variables}_{given}_FILE is set and {variables}_{missing}_FILE is not; set both or none": (
        "{variables}_{given}_FILE задана, а {variables}_{missing}_FILE нет; задайте обе или ни одной"
    ),
    "{variables}_CERT_FILE and {variables}_KEY_FILE": "{variables}_CERT_FILE и {variables}_KEY_FILE",
    "the key does not belong to the certificate": "ключ не подходит к сертификату",
    "not in PEM format, or the key's password is wrong or missing": (
        "не в формате PEM, или пароль ключа неверен или не задан"
    ),
    "{variables}: {path} cannot be used: {reason}": "{variables}: {path} не годится: {reason}",
    "{variables}: {path} cannot be read ({strerror}); check path and permissions": (
        "{variables}: {path} не читается ({strerror}); проверьте путь и права"
    ),
    "the server closed the connection after the handshake": "сервер закрыл соединение после рукопожатия",
    (
        "topic {name} has {count} partitions, KAFKA_TOPIC_PARTITIONS says {kafka_topic_partitions}; set it to "
        "{count}, or recreate the topics"
    ): Forms(
        "count",
        "в топике {name} {count} раздел, а KAFKA_TOPIC_PARTITIONS={kafka_topic_partitions}; задайте {count} "
        "или создайте топики заново",
        "в топике {name} {count} раздела, а KAFKA_TOPIC_PARTITIONS={kafka_topic_partitions}; задайте {count} "
        "или создайте топики заново",
        "в топике {name} {count} разделов, а KAFKA_TOPIC_PARTITIONS={kafka_topic_partitions}; задайте {count} "
        "или создайте топики заново",
    ),
    "topic {name} cannot be created: {kind} {text}": "топик {name} нельзя создать: {kind} {text}",
    (
        "{listed} with {copies} of {wanted} copies (KAFKA_TOPIC_REPLICATION_FACTOR); add some with Kafka's "
        "kafka-reassign-partitions, or set it to what there is"
    ): (
        "{listed}: копий {copies} вместо {wanted} (KAFKA_TOPIC_REPLICATION_FACTOR); добавьте их утилитой Kafka "
        "kafka-reassign-partitions или задайте столько, сколько есть"
    ),
    (
        "{listed} with min.insync.replicas={count} instead of {waited} (KAFKA_MIN_INSYNC_REPLICAS): `vision kafka "
        "configs --alter --entity-type topics --entity-name NAME --add-config {min_insync}={waited}`"
    ): (
        "{listed}: min.insync.replicas={count} вместо {waited} (KAFKA_MIN_INSYNC_REPLICAS): `vision kafka configs "
        "--alter --entity-type topics --entity-name NAME --add-config {min_insync}={waited}`"
    ),
    (
        "{listed} with copies that are not in sync: a broker is away or slow; `vision status`, or the brokers' own "
        "tools, show which"
    ): (
        "{listed}: есть отставшие копии: брокер недоступен или медленный; какой — покажут `vision status` или "
        "собственные утилиты брокеров"
    ),
    "topic {first}": "топик {first}",
    "{names_count} topics ({first}, …)": Forms(
        "names_count",
        "{names_count} топик ({first}, …)",
        "{names_count} топика ({first}, …)",
        "{names_count} топиков ({first}, …)",
    ),
    "after {seconds:.0f} s a broker does not know the partitions of {listed}": (
        "через {seconds:.0f} с какой-то брокер ещё не знает разделов: {listed}"
    ),
    "set GIGACHAT_CREDENTIALS or GIGACHAT_CLIENT_ID and GIGACHAT_CLIENT_SECRET": (
        "задайте GIGACHAT_CREDENTIALS или GIGACHAT_CLIENT_ID и GIGACHAT_CLIENT_SECRET"
    ),
    "the token endpoint answered without a token; check GIGACHAT_AUTH_URL": (
        "адрес выдачи токенов ответил без токена; проверьте GIGACHAT_AUTH_URL"
    ),
    "GigaChat refuses our client certificate, or wants one (HTTP {status})": (
        "GigaChat не принимает наш клиентский сертификат или требует его (HTTP {status})"
    ),
    "{text}; check GIGACHAT_CERT_FILE and GIGACHAT_KEY_FILE": (
        "{text}; проверьте GIGACHAT_CERT_FILE и GIGACHAT_KEY_FILE"
    ),
    "the credentials are refused (HTTP {status}: {message})": "доступ отклонён (HTTP {status}: {message})",
    "{text}; check GIGACHAT_CREDENTIALS and GIGACHAT_SCOPE": "{text}; проверьте GIGACHAT_CREDENTIALS и GIGACHAT_SCOPE",
    "a count or clean-up is under way; ask again when it has ended": (
        "идёт подсчёт или очистка; повторите, когда закончится"
    ),
    (
        "Quota exceeded ({reason}): {size_bytes} bytes do not fit; {tenant_id} holds {tenant_bytes:.4f} of "
        "{tenant_limit_bytes:g} GB, the bucket {bucket_bytes:.4f} GB; clean up with `vision storage cleanup`, or "
        "raise {name}"
    ): (
        "Quota exceeded ({reason}): {size_bytes} байт не помещаются; у {tenant_id} {tenant_bytes:.4f} из "
        "{tenant_limit_bytes:g} GB, в бакете {bucket_bytes:.4f} GB; очистите: `vision storage cleanup`, или "
        "поднимите {name}"
    ),
    "{path} has {size} bytes; the largest that is taken is {max_upload_bytes}": (
        "{path}: байт {size}; больше {max_upload_bytes} не принимается"
    ),
    "{path}: its type cannot be told from its content; give it with --mime": (
        "{path}: тип не понятен по содержимому; укажите его в --mime"
    ),
    (
        "{role} may not make or change tables, and these are not applied: {missing}; {remedy}, or let it make "
        "them: GRANT CREATE, USAGE ON SCHEMA public TO {quoted_role}"
    ): (
        "{role} не может создавать и менять таблицы, а эти миграции не применены: {missing}; {remedy} или "
        "разрешите ему: GRANT CREATE, USAGE ON SCHEMA public TO {quoted_role}"
    ),
    "the user of DATABASE_URL lacks rights; {remedy}, which grants them, or have it done: {grants}": (
        "пользователю DATABASE_URL не хватает прав; {remedy}: это их выдаст, или пусть выполнят: {grants}"
    ),
    "{name} was changed after it was applied; restore it and add a new migration": (
        "{name} изменена после применения; верните её и добавьте новую миграцию"
    ),
    (
        "{name}: {fault}, and was not made by us; give this service a database of its own in DATABASE_URL. If it "
        "was and only the table schema_migrations is lost: `vision migrate repair`"
    ): (
        "{name}: {fault}, и создано не нами; дайте этому сервису в DATABASE_URL собственную базу. Если создано "
        "нами и потеряна только таблица schema_migrations: `vision migrate repair`"
    ),
    "{path}: cannot be read: {strerror}; set VISION_POLICY_CONFIG_PATH to a readable file": (
        "{path}: не читается: {strerror}; задайте в VISION_POLICY_CONFIG_PATH читаемый файл"
    ),
    "{path}: is not UTF-8 (byte {start}); save it as UTF-8": "{path}: не UTF-8 (байт {start}); сохраните в UTF-8",
    "correct the lines named, then run: vision policy check {path}": (
        "исправьте названные строки, затем запустите: vision policy check {path}"
    ),
    "the schema is not as we made it; `vision migrate status` shows how, `vision migrate repair` mends it": (
        "схема не такая, как мы её создали; чем — покажет `vision migrate status`, исправит `vision migrate repair`"
    ),
    "Postgres: {kind}: {fault}; {remedy}": "Postgres: {kind}: {fault}; {remedy}",
    "the Postgres sink is not open": "приёмник Postgres не открыт",
    "Postgres refuses it: {kind}: {fault}": "Postgres не принимает: {kind}: {fault}",
    "cannot be written as JSON: {kind}: {fault}": "нельзя записать как JSON: {kind}: {fault}",
    "Postgres refuses it: {kind}: {own}": "Postgres не принимает: {kind}: {own}",
    "Postgres refuses the batch but none of its records alone: {kind}: {fault}": (
        "Postgres не принимает пачку, но принимает каждую её запись отдельно: {kind}: {fault}"
    ),
    "table {name}": "таблица {name}",
    "{what} is missing": "нет: {what}",
    "{what} is {found!r} and should be {expected!r}": "{what}: сейчас {found!r}, должно быть {expected!r}",
    (
        "the table schema_migrations is lost, and it is not certain that the others are ours: {doubts}; if they "
        "are not, give this service a database of its own in DATABASE_URL"
    ): (
        "таблица schema_migrations потеряна, и нельзя сказать точно, что остальные — наши: {doubts}; если не наши, "
        "дайте этому сервису в DATABASE_URL собственную базу"
    ),
    "existing rows do not allow it: {fault}": "имеющиеся строки этого не позволяют: {fault}",
    "{name} was applied by a newer version of this program; use that one": (
        "{name} применена более новой версией этой программы; используйте её"
    ),
    "the bucket does not exist; `vision migrate repair` creates it, or correct S3_BUCKET": (
        "бакета нет; его создаст `vision migrate repair`, или исправьте S3_BUCKET"
    ),
    "the access key is unknown; correct S3_ACCESS_KEY_ID": "ключ доступа неизвестен; исправьте S3_ACCESS_KEY_ID",
    "the secret key does not fit; correct S3_SECRET_ACCESS_KEY": (
        "секретный ключ не подходит; исправьте S3_SECRET_ACCESS_KEY"
    ),
    "this machine's clock is wrong; correct it": "часы этой машины неверны; исправьте их",
    "set S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, one of them is empty, or S3_AUTH=role": (
        "задайте S3_ACCESS_KEY_ID и S3_SECRET_ACCESS_KEY (одна из них пуста) или S3_AUTH=role"
    ),
    "{errors_count} objects not deleted, the first: {first}": Forms(
        "errors_count",
        "не удалён {errors_count} объект, первый: {first}",
        "не удалены {errors_count} объекта, первый: {first}",
        "не удалено {errors_count} объектов, первый: {first}",
    ),
    "{key} is larger than {limit_bytes} bytes": Forms(
        "limit_bytes",
        "{key} больше {limit_bytes} байта",
        "{key} больше {limit_bytes} байт",
        "{key} больше {limit_bytes} байт",
    ),
    "{key!r} is no key of an object": "{key!r} — не ключ объекта",
    "the S3 store is not open": "хранилище S3 не открыто",
    "{endpoint} does not answer: {reason}": "{endpoint} не отвечает: {reason}",
    "{endpoint}, bucket {bucket}: {remedy}": "{endpoint}, бакет {bucket}: {remedy}",
    "{key} is not there": "{key} нет",
    "the store takes {key!r} for no key of an object: {code}": "хранилище не считает {key!r} ключом объекта: {code}",
    "access to {key} is denied; check the key's permissions": "доступ к {key} запрещён; проверьте права ключа",
    "{endpoint} answered {status} {code} to {operation_name}": (
        "{endpoint} ответил {status} {code} на {operation_name}"
    ),
    "KAFKA_KEY_FILE: {file} is not in the format PKCS#8, the only one that Kafka's own tools read; "
    "convert it: openssl pkcs8 -topk8 -in OLD -out NEW": (
        "KAFKA_KEY_FILE: {file} не в формате PKCS#8, а собственные утилиты Kafka читают только его; "
        "преобразуйте: openssl pkcs8 -topk8 -in OLD -out NEW"
    ),
    "CREATE on the missing topics {names}": "CREATE на недостающие топики {names}",
}
