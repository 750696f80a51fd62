"""Every setting of the service, in one place. A field's name in capitals is its environment variable.

Values come, in this order, from the environment, from the file `.env`, from `.vision/env` (written by the embedded
stack) and from the defaults here. `vision config` shows the effective values and where each came from.
"""

from __future__ import annotations

import base64
import difflib
import ipaddress
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, urlsplit

import orjson
from dotenv import dotenv_values
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from vision_app.texts import noted, say

from .secret_files import SUFFIX, SecretFileError, secrets_from_files

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, le=1)]
MAX_PORT = 65535
Port = Annotated[int, Field(ge=0, le=MAX_PORT)]


OBSOLETE: Mapping[str, str] = {
    "FEATURE_ALLOW_NON_UUID_IDS": noted("every id is taken as text, and travels as it came"),
    "VISION_DLQ_ENABLED": noted("what cannot be processed is always kept"),
    "VISION_IDEMPOTENCY_TTL_HOURS": noted("nothing is decided by the Redis marks"),
    "VISION_TOKENS_COUNT_ENABLED": noted(
        "the provider cannot count a picture's tokens; they are estimated from its size"
    ),
    "VISION_PREPROCESS_GRAYSCALE": noted("colours are part of the answer"),
    "VISION_DEFAULT_PROMPT": noted(
        "prompts are versioned files (vision_app/prompts): a change must change the cache key"
    ),
    "VISION_LEGACY_PROMPT": noted(
        "prompts are versioned files (vision_app/prompts): a change must change the cache key"
    ),
    "VISION_OCR_ENGINE": noted("OCR is Tesseract; install it with the languages of VISION_OCR_LANGUAGES"),
    "VISION_LOCAL_OCR_PRIMARY_ENABLED": noted("OCR is a fallback only, as the policy's fallback section says"),
    "VISION_LOW_PRIORITY_QUEUE_ENABLED": noted("what the budget cannot pay today waits and is analyzed later"),
    "VISION_PHASH_ENABLED": noted("answers are shared between equal pictures only, by sha256"),
    "VISION_ROI_CROP_ENABLED": noted("pictures are scaled, never cropped"),
    "VISION_EXPERIMENT_CONFIG_PATH": noted("there are no experiments"),
    "ENRICHMENT_CONFIG_PATH": noted("set VISION_OCR_FALLBACK_ENABLED"),
    "GIGACHAT_VERIFY_SSL": noted(
        "TLS is always verified; name the state's root certificate in GIGACHAT_CA_BUNDLE_FILE"
    ),
}
"""Variables of the assistant that have no effect here, and what to use instead."""

_KAFKA_FILES = ("KAFKA_CA_FILE", "KAFKA_CERT_FILE", "KAFKA_KEY_FILE")


OTHER_VARIABLES = frozenset(
    {
        *("VISION_HOME", "VISION_WORKER_ID", "VISION_CACHE", "VISION_PORTS", "VISION_MAVEN_URL", "VISION_VERSION"),
        *("VISION_LOCK", "VISION_LANG"),
        *("VISION_CRASH_AT", "VISION_RAISE_AT"),
        "VISION_SUPERVISOR_KEY",
    }
)
"""Variables of ours that are no settings: of the embedded stack, the compose file and the crash suite."""

OTHERS = "OTEL_"
"""Variables that begin so, and are not ours, are read by the library of the traces."""

NEAR = 0.85
"""difflib's ratio from which a variable counts as a misspelt name of ours: one letter in eight may differ."""

PAIRS = (
    ("gigachat_client_id", "gigachat_client_secret"),
    ("s3_access_key_id", "s3_secret_access_key"),
    ("kafka_sasl_username", "kafka_sasl_password"),
)
"""Settings that are of use only together."""


class SettingsError(Exception):
    """One or more settings have a value that cannot be used. Correct the variables named below and start again."""


class Source(StrEnum):
    """Where the effective value of a setting came from; a secret's file counts as the place that names it."""

    ENVIRONMENT = "environment"
    DOTENV = ".env"
    STACK = "embedded stack"
    DEFAULT = "default"


def vision_home() -> Path:
    """The folder of the embedded stack: data, logs and its `env` file. `VISION_HOME`, else `.vision` here."""
    return Path(os.environ.get("VISION_HOME", ".vision")).absolute()


def stack_history() -> Path:
    """What the embedded stack has written into its `env` file, also at earlier starts with other ports.

    A JSON list of objects, one for each service and its variables, the first of them its address.
    """
    return vision_home() / "env-history.json"


def written_by_stack(given: Mapping[str, str | None]) -> frozenset[str]:
    """Those of these variables, in lower case, that the embedded stack itself has written, now or earlier.

    `set -a; . .vision/env` puts them into the environment. They do not count as given there: else the next start would
    take the stack's own services for external ones, at addresses that have changed. A variable counts only together
    with its service's address: NEO4J_PASSWORD alone may be meant for a service elsewhere.
    """
    named = {name.lower(): value for name, value in given.items() if value}
    try:
        history = orjson.loads(stack_history().read_bytes())
    except (OSError, ValueError):  # there was no embedded stack here
        return frozenset()
    return frozenset(
        name.lower()
        for service in history
        if named.get(next(iter(service)).lower()) == next(iter(service.values()))
        for name, value in service.items()
        if named.get(name.lower()) == value
    )


class Settings(BaseSettings):
    """The effective configuration. Times carry their unit in the name, sizes too.

    The text below a field describes it and `# ---` begins a group. docs/reference/settings.md is made from both: run
    `make reference` after a change.
    """

    model_config = SettingsConfigDict(extra="ignore", frozen=True, case_sensitive=False, env_ignore_empty=True)

    # --- features
    feature_vision_enabled: bool = True
    """Whether the worker reads the input streams. What is already in Kafka is finished either way."""
    feature_neo4j_enabled: bool = True
    """Whether results are also written to Neo4j."""
    feature_vision_emit_skipped_events: bool = True
    """Whether a post of which nothing was analyzed is announced, as `posts.vision.skipped`."""

    # --- Redis: the input and output streams
    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    """The server of the streams. Begins with `redis://`, `rediss://` or `unix://`."""
    redis_ca_file: Path | None = None
    """A PEM file with the authorities that sign Redis' certificate (`rediss://`). Without it, the usual ones count."""
    redis_cert_file: Path | None = None
    """A PEM file with our certificate for Redis, if it asks for one."""
    redis_key_file: Path | None = None
    """The PEM file with the key of REDIS_CERT_FILE."""
    redis_key_password: SecretStr = SecretStr("")
    """The password of REDIS_KEY_FILE."""
    redis_sentinels: str = ""
    """Addresses of Redis Sentinels, `host:port`, separated by commas. They replace the host of REDIS_URL, and are
    spoken to with TLS and our certificate if it begins with `rediss://`."""
    redis_sentinel_master: str = ""
    """The name under which the Sentinels know the server."""
    redis_sentinel_password: SecretStr = SecretStr("")
    """The password of the Sentinels themselves."""
    vision_input_streams: str = "stream:posts:vision:uploaded,stream:posts:vision"
    """The streams that uploaded posts are read from, separated by commas."""
    vision_output_stream: str = "stream:posts:vision:analyzed"
    """The stream on which finished posts are announced."""
    vision_dlq_stream: str = "stream:posts:vision:dlq"
    """The stream that keeps entries which could not be relayed; they are on `vision.dlq`, too."""
    vision_consumer_group: str = "vision_workers"
    """The consumer group that all workers share on the input streams."""
    vision_max_deliveries: Positive = 5
    """An entry that was delivered so often without being relayed becomes a dead letter."""
    vision_pel_min_idle_ms: Positive = 60_000
    """An entry that another worker has held for so long without renewing it is taken over."""
    vision_pel_batch_size: Positive = 10
    """How many such entries are taken over at once."""
    vision_pending_check_interval: Positive = 5
    """Seconds between looks at other consumers' pending entries."""
    vision_read_batch_size: Positive = 100
    """The most entries that are read from a stream at once."""

    # --- processes
    vision_workers: str = "1"
    """How many processes the command `worker` runs: a number, or auto (as many as help here). With more than one, a
    supervisor runs them, and the API and the metrics of all are at its ports."""
    vision_decoders: Positive = Field(default_factory=lambda given: 2 if given.get("vision_workers", "1") == "1" else 1)
    """Processes that decode pictures, for each worker process. 2, or 1 where VISION_WORKERS is not 1."""
    vision_advertised_host: str = ""
    """The host name or address at which workers on other machines reach this one. Without it, VISION_API_HOST counts:
    0.0.0.0 is only for a worker that is alone, or for processes of one machine."""

    # --- Kafka and Faust
    kafka_bootstrap_servers: str = "127.0.0.1:9092"
    """The brokers, as `host:port`, separated by commas."""
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How the brokers are spoken to: with or without TLS (SSL), with or without user and password (SASL)."""
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """How user and password are proved."""
    kafka_sasl_username: str = ""
    """The user of SASL."""
    kafka_sasl_password: SecretStr = SecretStr("")
    """The user's password."""
    kafka_ca_file: Path | None = None
    """A PEM file with the authorities that sign the brokers' certificates. Without it, the usual ones count."""
    kafka_cert_file: Path | None = None
    """A PEM file with our certificate for the brokers, if they ask for one."""
    kafka_key_file: Path | None = None
    """The PEM file with the key of KAFKA_CERT_FILE."""
    kafka_key_password: SecretStr = SecretStr("")
    """The password of KAFKA_KEY_FILE."""
    kafka_app_id: str = "vision"
    """The name of the Faust app: the consumer group, and the first part of the changelogs' names."""
    kafka_topic_partitions: Positive = 8
    """Partitions of each topic. Must be the same as those of topics that exist already."""
    kafka_topic_replication_factor: Positive = 1
    """Copies of each partition, for topics that the worker creates."""
    kafka_min_insync_replicas: int | None = Field(None, ge=1)
    """Copies that a write waits for, for topics that the worker creates. Without it, what the brokers say counts."""
    kafka_retention_days: Positive = 14
    """How long topics keep records, and S3 the records of paid calls."""
    kafka_dlq_retention_days: Positive = 30
    """How long `vision.dlq` keeps letters."""
    kafka_session_timeout_seconds: Positive = 10
    """A worker that the broker has not heard of for so long loses its partitions."""
    kafka_store: str = "memory://"
    """Where Faust keeps its tables: `memory://` or `rocksdb://`."""
    vision_event_loop: Literal["auto", "uvloop", "asyncio"] = "auto"
    """The worker's event loop. auto: uvloop where it is installed, else Python's own."""

    # --- Postgres
    database_url: SecretStr = SecretStr("postgresql://postgres@127.0.0.1:5432/postgres")
    """The database. Begins with `postgresql://` or `postgres://`."""
    database_owner_url: SecretStr = SecretStr("")
    """The database with the user who owns the tables, for `vision migrate`. Without it, DATABASE_URL counts."""
    database_pgbouncer: bool = False
    """Whether DATABASE_URL leads to pgbouncer in transaction mode: statements are not prepared in advance then."""
    database_session_url: SecretStr = SecretStr("")
    """The database past pgbouncer, or through its session mode, with the user of DATABASE_URL: clean-up needs a session
    for its lock and its temporary tables. Needed with DATABASE_PGBOUNCER, without effect otherwise."""

    # --- S3
    s3_endpoint_url: str = "http://127.0.0.1:9000"
    """The address of the object store."""
    s3_auth: Literal["keys", "role"] = "keys"
    """keys: the two below. role: that of the machine, container or pod, found as the AWS clients do; it needs
    VISION_GRANT_KEY."""
    s3_access_key_id: SecretStr = SecretStr("")
    """The access key. The worker does not start without it, unless S3_AUTH says role."""
    s3_secret_access_key: SecretStr = SecretStr("")
    """The secret key, needed as well. The ledger signs with it where VISION_GRANT_KEY is not set."""
    s3_bucket: str = Field("vision", validation_alias=AliasChoices("s3_bucket", "s3_bucket_name"))
    """The bucket of pictures and answers."""
    s3_region: str = "ru-central-1"
    """The region that requests are signed for."""
    s3_session_token: SecretStr = SecretStr("")
    """The token of temporary keys."""
    s3_ca_file: Path | None = None
    """A PEM file with the authorities that sign the store's certificate. Without it, the usual ones count."""
    s3_addressing_style: Literal["path", "virtual"] = "path"
    """Where the bucket's name stands in addresses: in the path, or in the host name (virtual)."""
    s3_server_side_encryption: Literal["", "AES256", "aws:kms"] = ""
    """The encryption that the store is asked for with each object."""
    s3_sse_kms_key_id: str = ""
    """The key for `aws:kms`; without it, the store's own."""
    s3_default_tenant_id: str = "default"
    """The tenant of events, and of commands, that name none."""
    s3_total_limit_gb: float = Field(
        15, gt=0, validation_alias=AliasChoices("s3_total_limit_gb", "s3_storage_limit_gb")
    )
    """What the bucket may hold."""
    s3_emergency_threshold_gb: float = Field(default_factory=lambda given: _share(given, 14), gt=0)
    """Above it a clean-up starts by itself. 14/15 of S3_TOTAL_LIMIT_GB unless set."""
    s3_cleanup_target_gb: float = Field(default_factory=lambda given: _share(given, 12), gt=0)
    """What a clean-up brings the bucket down to. 12/15 of S3_TOTAL_LIMIT_GB unless set."""
    s3_per_tenant_limit_gb: float = Field(2, gt=0)
    """What one tenant may hold, all types together."""
    s3_media_max_gb: float = Field(10, gt=0)
    """What `media/` may hold, all tenants together."""
    s3_media_ttl_days: Positive = 30
    """Media that were not used for so long are deleted."""
    s3_vision_max_gb: float = Field(2, gt=0)
    """What `vision/` may hold, all tenants together."""
    s3_vision_ttl_days: Positive = 14
    """Answers and documents that were not used for so long are deleted."""
    s3_crawl_max_gb: float = Field(2, gt=0)
    """What `crawl/` may hold, all tenants together."""
    s3_crawl_ttl_days: Positive = 7
    """Crawled pages that were not used for so long are deleted."""
    s3_emergency_vision_days: float = Field(7, ge=0)
    """In an emergency, answers older than this give way."""
    s3_emergency_crawl_days: float = Field(3, ge=0)
    """In an emergency, crawled pages older than this give way."""
    s3_upload_grace_hours: float = Field(336, ge=0)
    """How long an upload that no post has listed yet is kept."""
    s3_cleanup_interval_hours: float = Field(6, gt=0)
    """Time between clean-ups."""
    s3_recount_interval_minutes: float = Field(30, gt=0)
    """Time between full counts of the bucket."""

    # --- Neo4j
    neo4j_uri: str = "bolt://127.0.0.1:7687"
    """The database. Begins with `bolt://` or `neo4j://` (with `+s` or `+ssc` for TLS); no password in it."""
    neo4j_user: str = Field("neo4j", validation_alias=AliasChoices("neo4j_user", "neo4j_username"))
    """The user."""
    neo4j_password: SecretStr = SecretStr("changeme")
    """The user's password."""
    neo4j_database: str = ""
    """The name of the database; without it, the user's home database."""
    neo4j_ca_file: Path | None = None
    """A PEM file with the authorities that sign Neo4j's certificate (`bolt+s://`, `neo4j+s://`)."""

    # --- GigaChat
    gigachat_credentials: SecretStr = SecretStr("")
    """base64 of `client_id:client_secret`. Counts before the pair below."""
    gigachat_client_id: str = ""
    """The client's id from the vendor's developer page."""
    gigachat_client_secret: SecretStr = SecretStr("")
    """The client's secret from the same page."""
    gigachat_scope: Literal["GIGACHAT_API_PERS", "GIGACHAT_API_B2B", "GIGACHAT_API_CORP"] = "GIGACHAT_API_PERS"
    """The kind of the account."""
    gigachat_base_url: str = "https://gigachat.devices.sberbank.ru/api/v1"
    """The address of the API."""
    gigachat_auth_url: str = "https://ngw.devices.sberbank.ru:9443/api/v2/oauth"
    """The address that gives access tokens."""
    gigachat_vision_model: str = "GigaChat-Pro"
    """The model that is asked. Another model has stored answers of its own."""
    gigachat_vision_timeout: Positive = 45
    """Seconds at the provider for one picture: upload, answer, deletion."""
    gigachat_ca_bundle_file: Path | None = None
    """A PEM file with further certificate authorities for the two addresses."""
    gigachat_cert_file: Path | None = None
    """A PEM file with our certificate, for accounts that sign in with one."""
    gigachat_key_file: Path | None = None
    """The PEM file with the key of GIGACHAT_CERT_FILE."""
    gigachat_key_password: SecretStr = SecretStr("")
    """The password of GIGACHAT_KEY_FILE."""
    gigachat_proxy_url: SecretStr = SecretStr("")
    """The proxy for GigaChat alone: `http://user:password@host:port`. Without it, HTTPS_PROXY counts."""
    gigachat_simulated: bool = False
    """Whether answers come from the simulator, and are marked so. Set by the embedded stack."""
    vision_provider_streams: Positive = 10
    """Requests in flight per account, all workers together."""
    vision_api_max_retries: int = Field(3, ge=0)
    """Repetitions of a request that surely cost nothing; also calls for a picture whose calls are cut off."""
    vision_max_output_tokens: Positive = 512
    """The most that an answer may have; part of every estimate."""
    gigachat_circuit_breaker_failure_threshold: Positive = 5
    """So many outages in a row shut the gate: nothing is sent but a probe."""
    gigachat_circuit_breaker_recovery_timeout: Positive = 60
    """Seconds until the first probe."""

    # --- policy, preprocessing, OCR
    vision_policy_config_path: Path | None = None
    """The policy file. Without one, the policy shipped in `config/vision_policy.yml`."""
    vision_preprocess_enabled: bool = True
    """Whether pictures are scaled down before they are sent. They are always encoded anew."""
    vision_preprocess_max_dim: int = Field(1024, ge=64, le=8192)
    """Pixels of a picture's longer side after scaling."""
    vision_preprocess_jpeg_quality: int = Field(75, ge=1, le=95)
    """The quality of pictures that are sent as JPEG."""
    vision_decoding_timeout: Positive = 15
    """Seconds of processor time for one picture; the slowest usual one takes 3."""
    vision_decoding_memory_mb: int = Field(1280, ge=128)
    """For each decoding process; 60 million pixels take up to 993."""
    vision_ocr_fallback_enabled: bool = True
    """Whether Tesseract may be used; the policy's fallback section says when."""
    vision_ocr_languages: str = "rus+eng"
    """Tesseract's languages, joined by `+`."""
    vision_ocr_timeout: Positive = 30
    """Seconds for one picture."""

    # --- budget
    vision_max_daily_tokens: int = Field(
        250_000, ge=0, validation_alias=AliasChoices("vision_max_daily_tokens", "gigachat_max_daily_tokens")
    )
    """What a tenant may spend in a UTC day, unless an operator has set another limit for it."""
    vision_prices: str = ""
    """Roubles per 1,000 tokens of each model, `GigaChat-Pro=1.5,GigaChat-Max=1.95`, for `vision cost` and the page. A
    model's version (`GigaChat-Pro:2.0`) need not be named. Without a price only tokens are shown."""
    vision_max_concurrent_requests: int = Field(
        3, gt=0, validation_alias=AliasChoices("vision_max_concurrent_requests", "gigachat_max_concurrent_requests")
    )
    """Grants that a tenant may have open at once."""
    vision_max_queue_depth: Positive = 1000
    """Tasks of a tenant that may wait in its ledger; further ones are skipped."""
    vision_handler_deadline_seconds: Positive = 60
    """How long a worker that is told to stop waits for the calls in flight."""
    vision_grant_key: SecretStr = SecretStr("")
    """The ledger signs grants with it, the same on all workers. Without it, S3's secret key counts."""
    vision_stall_seconds: float = Field(120, ge=1)
    """Work that waits for nothing known for longer stands still. Below 90 takes slow work for a stall."""

    # --- web, metrics, traces, logs
    vision_api_host: str = "127.0.0.1"
    """The address that the API listens on. One that is not loopback needs VISION_API_TOKENS."""
    vision_api_port: Port = 8000
    """The port of the API."""
    vision_api_tokens: SecretStr = SecretStr("")
    """Who may ask: `token=tenant,token=*` (`*`: all tenants)."""
    vision_api_auth: Literal["on", "auto", "off"] = "on"
    """Whether tokens are checked: on, auto (if there are any), off (something in front authenticates)."""
    vision_allowed_hosts: str = ""
    """Host names with a dot, separated by commas, under which ports that need no token may be asked; * for all."""
    vision_api_rate_per_second: float = Field(100, gt=0)
    """Requests of each token, or of each address where there are none."""
    vision_api_max_body_bytes: Positive = 65_536
    """The largest body of a request."""
    vision_api_max_connections: Positive = 256
    """Connections to the API."""
    vision_api_caller_requests: Positive = 64
    """Requests in work at once, of each token (or address); a quarter of all."""
    vision_api_caller_bytes: Positive = 1_048_576
    """Bodies on their way at once, of each token (or address)."""
    vision_api_idle_seconds: float = Field(30, gt=0)
    """A connection without a whole request is closed after so long, between requests, too."""
    vision_api_timeout_seconds: float = Field(30, gt=0)
    """From a request's headers to its answer."""
    vision_api_thumbnail_cache_bytes: int = Field(16_777_216, ge=0)
    """Thumbnails kept in memory."""
    vision_api_change_streams: int = Field(32, ge=0)
    """Open streams of `/api/v1/changes` at once; of each token (or address) half of them. Each holds a connection."""
    vision_audit_timeout_seconds: float = Field(1800, gt=0)
    """For one account asked for over the API or the page; 10,000 posts take 15 s of processor time."""
    vision_audit_memory_mb: int = Field(1024, ge=256)
    """For the process that takes it; 10,000 posts take 83. When it is used up, the account fails and says so."""
    metrics_host: str = "127.0.0.1"
    """The address that the metrics' port listens on."""
    metrics_port: Port = 8001
    """The port of metrics and health."""
    otel_exporter_otlp_endpoint: str = ""
    """The collector of traces (OTLP over HTTP, `http://host:4318`; `/v1/traces` is appended). Without it nothing is
    traced. Needs the extra `otel`; see docs/tracing.md."""
    otel_exporter_otlp_headers: SecretStr = SecretStr("")
    """Headers for the collector: `name=value,name=value`, values encoded as in URLs."""
    otel_exporter_otlp_certificate: Path | None = None
    """A PEM file with the authorities that sign the collector's certificate. Without it, the usual ones count."""
    otel_service_name: str = "vision"
    """The name of the service in traces."""
    vision_traces_share: Fraction = 1.0
    """The share of posts that are traced, chosen by their trace ids: each with all of its spans, or with none."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least severe lines that are written."""
    log_format: Literal["json", "console"] = "json"
    """json: one object a line. console: for a person."""

    @field_validator("vision_workers")
    @classmethod
    def _processes(cls, value: str) -> str:
        text = value.strip().lower()
        if text != "auto" and not (text.isascii() and text.isdigit() and int(text) > 0):
            raise ValueError(say("must be auto, or a number from 1 on"))
        return text if text == "auto" else str(int(text))

    @field_validator("vision_advertised_host")
    @classmethod
    def _host_alone(cls, value: str) -> str:
        if set(value) & set("/@: ") and not value.startswith("["):
            raise ValueError(say("must be a host name or an address alone, without scheme and port"))
        return value

    @field_validator("vision_api_host", "metrics_host")
    @classmethod
    def _address(cls, value: str) -> str:
        ipaddress.ip_address(value)
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: SecretStr) -> SecretStr:
        url = _url(_scheme(value, "redis://", "rediss://", "unix://"))
        if any(name.startswith("ssl") for name in parse_qs(urlsplit(url.get_secret_value()).query)):
            raise ValueError(
                say(
                    "must not have options that begin with ssl: TLS is always verified; begin it with "
                    "rediss:// and name the files in REDIS_CA_FILE, REDIS_CERT_FILE and REDIS_KEY_FILE"
                )
            )
        return url

    @field_validator("redis_sentinels")
    @classmethod
    def _sentinel_addresses(cls, value: str) -> str:
        parse_addresses(value)
        return value

    @field_validator("database_url", "database_owner_url", "database_session_url")
    @classmethod
    def _database(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value():
            return value
        return _url(_scheme(value, "postgresql://", "postgres://"))

    @field_validator("gigachat_proxy_url")
    @classmethod
    def _proxy(cls, value: SecretStr) -> SecretStr:
        return _url(_scheme(value, "http://", "https://")) if value.get_secret_value() else value

    @field_validator("s3_endpoint_url", "gigachat_base_url", "gigachat_auth_url")
    @classmethod
    def _http(cls, value: str) -> str:
        return _public(_addressed(_scheme(SecretStr(value), "http://", "https://"))).rstrip("/")

    @field_validator("otel_exporter_otlp_endpoint")
    @classmethod
    def _collector(cls, value: str) -> str:
        return _public(_scheme(SecretStr(value), "http://", "https://")).rstrip("/") if value else value

    @field_validator("otel_exporter_otlp_headers")
    @classmethod
    def _collector_headers(cls, value: SecretStr) -> SecretStr:
        pairs = [pair.partition("=") for pair in value.get_secret_value().split(",") if pair.strip()]
        if not all(name.strip() and equals for name, equals, _ in pairs):
            raise ValueError(say("must be name=value,name=value, with values encoded as in URLs"))
        return value

    @field_validator("neo4j_uri")
    @classmethod
    def _neo4j(cls, value: str) -> str:
        return _public(
            _scheme(SecretStr(value), "bolt://", "bolt+s://", "bolt+ssc://", "neo4j://", "neo4j+s://", "neo4j+ssc://")
        )

    @field_validator("vision_input_streams")
    @classmethod
    def _some_stream(cls, value: str) -> str:
        if not any(name.strip() for name in value.split(",")):
            raise ValueError("must name at least one stream; without any no post would ever be read")
        return value

    @field_validator("vision_prices")
    @classmethod
    def _prices_are_numbers(cls, value: str) -> str:
        parse_prices(value)
        return value

    @field_validator("vision_api_tokens")
    @classmethod
    def _tokens(cls, value: SecretStr) -> SecretStr:
        parse_tokens(value)
        return value

    @field_validator("kafka_bootstrap_servers")
    @classmethod
    def _brokers(cls, value: str) -> str:
        for server in value.split(","):
            host, _, port = server.strip().rpartition(":")
            if not host or not port.isascii() or not port.isdigit() or int(port) > MAX_PORT or set(host) & set("/@"):
                raise ValueError(
                    say("must be host:port, several separated by commas, without a scheme, user or password")
                )
        return value

    @field_validator("kafka_store")
    @classmethod
    def _store(cls, value: str) -> str:
        return _scheme(SecretStr(value), "memory://", "rocksdb://").get_secret_value()

    @model_validator(mode="after")
    def _closed_by_default(self) -> Settings:
        exposed = not ipaddress.ip_address(self.vision_api_host).is_loopback
        if exposed and not parse_tokens(self.vision_api_tokens) and self.vision_api_auth == "on":
            raise ValueError(
                say(
                    "VISION_API_HOST is not a loopback address and nobody would have to authenticate; set "
                    "VISION_API_TOKENS=token=tenant,… or, if something in front authenticates, "
                    "VISION_API_AUTH=off"
                )
            )
        return self

    @model_validator(mode="after")
    def _check_authentication_settings(self) -> Settings:
        """Refuse settings that contradict each other: we must not guess which one is meant."""
        tokens, auth = bool(parse_tokens(self.vision_api_tokens)), self.vision_api_auth
        if tokens and auth == "off":
            raise ValueError(
                say(
                    "VISION_API_TOKENS is set and VISION_API_AUTH=off says that nobody needs a token; remove "
                    "VISION_API_AUTH=off to have the tokens checked, or VISION_API_TOKENS to leave the API open"
                )
            )
        if not tokens and auth == "on" and "vision_api_auth" in self.model_fields_set:
            raise ValueError(
                say(
                    "VISION_API_AUTH=on and there are no tokens, so that nobody could be let in or kept out; "
                    "set VISION_API_TOKENS=token=tenant,token=* or remove VISION_API_AUTH"
                )
            )
        return self

    @model_validator(mode="after")
    def _kafka_security(self) -> Settings:
        """Refuse what a connection would lack, or ignore: it must not be less safe than it looks."""
        protocol, user = self.kafka_security_protocol, ("KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD")
        named = {name: self._is_given(name.lower()) for name in (*user, *_KAFKA_FILES, "KAFKA_KEY_PASSWORD")}
        missing = [name for name in user if protocol.startswith("SASL") and not named[name]]
        if missing:
            raise ValueError(
                say(
                    "KAFKA_SECURITY_PROTOCOL={protocol} needs {missing}; set them, or another protocol",
                    protocol=protocol,
                    missing=" and ".join(missing),
                )
            )
        if "SASL" not in protocol and (ignored := [name for name in user if named[name]]):
            raise ValueError(
                say(
                    "{ignored} would not be used with KAFKA_SECURITY_PROTOCOL={protocol}; set it to SASL_SSL "
                    "(or SASL_PLAINTEXT, without TLS), or remove them",
                    ignored=" and ".join(ignored),
                    protocol=protocol,
                )
            )
        if "SSL" not in protocol and (ignored := [name for name in _KAFKA_FILES if named[name]]):
            raise ValueError(
                say(
                    "{ignored} would not be used with KAFKA_SECURITY_PROTOCOL={protocol}; set it to SSL or "
                    "SASL_SSL, or remove them",
                    ignored=" and ".join(ignored),
                    protocol=protocol,
                )
            )
        if named["KAFKA_CERT_FILE"] != named["KAFKA_KEY_FILE"]:
            raise ValueError(say("KAFKA_CERT_FILE and KAFKA_KEY_FILE belong together; set both or none"))
        if named["KAFKA_KEY_PASSWORD"] and not named["KAFKA_KEY_FILE"]:
            raise ValueError(
                say("KAFKA_KEY_PASSWORD is set and KAFKA_KEY_FILE is not; set both or remove the password")
            )
        return self

    def _is_given(self, field: str) -> bool:
        value = getattr(self, field)
        return bool(value.get_secret_value() if isinstance(value, SecretStr) else value)

    @model_validator(mode="after")
    def _signing(self) -> Settings:
        if self.s3_auth == "role" and not self.vision_grant_key.get_secret_value():
            raise ValueError(
                say(
                    "VISION_GRANT_KEY is not set and S3_AUTH=role leaves no secret key to sign the ledger's "
                    "grants with; set it to a random text, the same on all workers"
                )
            )
        return self

    @model_validator(mode="after")
    def _redis_way(self) -> Settings:
        """Refuse settings of Redis that contradict each other."""
        url = self.redis_url.get_secret_value()
        files = [name for name in ("redis_ca_file", "redis_cert_file", "redis_key_file") if getattr(self, name)]
        if files and not url.startswith("rediss://"):
            raise ValueError(
                say("{name} is set and REDIS_URL does not use it; begin it with rediss://", name=files[0].upper())
            )
        if self.redis_sentinels and not self.redis_sentinel_master:
            raise ValueError(
                say(
                    "REDIS_SENTINELS is set and REDIS_SENTINEL_MASTER is not; set it to the name that the "
                    "Sentinels watch"
                )
            )
        if not self.redis_sentinels and (self.redis_sentinel_master or self.redis_sentinel_password.get_secret_value()):
            raise ValueError(
                say(
                    "REDIS_SENTINEL_MASTER or REDIS_SENTINEL_PASSWORD is set and REDIS_SENTINELS is not; set "
                    "it to the Sentinels' addresses, host:port, separated by commas, or remove the others"
                )
            )
        if self.redis_sentinels and url.startswith("unix://"):
            raise ValueError(
                say(
                    "REDIS_SENTINELS is set and REDIS_URL is a socket of this machine; begin it with redis:// "
                    "or rediss://"
                )
            )
        return self

    @model_validator(mode="after")
    def _pooled_database(self) -> Settings:
        if self.database_pgbouncer and not self.database_session_url.get_secret_value():
            raise ValueError(
                say(
                    "DATABASE_PGBOUNCER is set and DATABASE_SESSION_URL is not; set it to the database without "
                    "pgbouncer, or to one of pgbouncer's in session mode"
                )
            )
        return self

    @model_validator(mode="after")
    def _neo4j_authority(self) -> Settings:
        if self.neo4j_ca_file is not None and "+s://" not in self.neo4j_uri:
            raise ValueError(
                say("NEO4J_CA_FILE is set and NEO4J_URI does not use it; begin it with neo4j+s:// or bolt+s://")
            )
        return self

    @model_validator(mode="after")
    def _copies(self) -> Settings:
        if (self.kafka_min_insync_replicas or 1) > self.kafka_topic_replication_factor:
            raise ValueError(
                say(
                    "KAFKA_MIN_INSYNC_REPLICAS={kafka_min_insync_replicas} is more than "
                    "KAFKA_TOPIC_REPLICATION_FACTOR={kafka_topic_replication_factor}: no write could succeed",
                    kafka_min_insync_replicas=self.kafka_min_insync_replicas,
                    kafka_topic_replication_factor=self.kafka_topic_replication_factor,
                )
            )
        return self

    @model_validator(mode="after")
    def _room(self) -> Settings:
        if not self.s3_cleanup_target_gb <= self.s3_emergency_threshold_gb <= self.s3_total_limit_gb:
            raise ValueError(
                say(
                    "S3_CLEANUP_TARGET_GB, S3_EMERGENCY_THRESHOLD_GB and S3_TOTAL_LIMIT_GB must not fall in "
                    "this order: they are {s3_cleanup_target_gb:g}, {s3_emergency_threshold_gb:g} and "
                    "{s3_total_limit_gb:g}",
                    s3_cleanup_target_gb=self.s3_cleanup_target_gb,
                    s3_emergency_threshold_gb=self.s3_emergency_threshold_gb,
                    s3_total_limit_gb=self.s3_total_limit_gb,
                )
            )
        return self

    @property
    def input_streams(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.vision_input_streams.split(",") if name.strip())

    @property
    def sentinels(self) -> list[tuple[str, int]]:
        """Hosts and ports of the Sentinels."""
        return parse_addresses(self.redis_sentinels)

    @property
    def gigachat_authorization(self) -> SecretStr:
        """base64(client_id:client_secret), from GIGACHAT_CREDENTIALS or the pair; empty when neither is set."""
        if self.gigachat_credentials.get_secret_value() or not self.gigachat_client_id:
            return self.gigachat_credentials
        pair = f"{self.gigachat_client_id}:{self.gigachat_client_secret.get_secret_value()}"
        return SecretStr(base64.b64encode(pair.encode()).decode())

    @property
    def grant_secret(self) -> str:
        """The secret that only the workers of an installation share."""
        return self.vision_grant_key.get_secret_value() or self.s3_secret_access_key.get_secret_value()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (
            init_settings,
            _without(env_settings, written_by_stack(os.environ)),
            _secret_files(settings_cls, os.environ),
            _without(_file(settings_cls, Path(".env")), written_by_stack(dotenv_values(".env"))),
            _secret_files(settings_cls, dotenv_values(".env")),
            _file(settings_cls, vision_home() / "env"),
        )


def load_settings(**overrides: Any) -> Settings:
    """Read the settings.

    Raises SettingsError with one line per fault: the variable, what is wrong, what is allowed.
    """
    try:
        return Settings(**overrides)
    except SecretFileError as fault:
        raise SettingsError(str(fault)) from None
    except ValidationError as fault:
        raise SettingsError("\n".join(_explain(fault))) from None


def sources() -> Mapping[str, Source]:
    """For every setting, where its effective value comes from."""
    places = (
        (dict(os.environ), Source.ENVIRONMENT),
        (dotenv_values(".env"), Source.DOTENV),
        (dotenv_values(vision_home() / "env"), Source.STACK),
    )
    given = [
        (
            {k.lower() for k, v in values.items() if v}
            - (written_by_stack(values) if place != Source.STACK else set()),
            place,
        )
        for values, place in places
    ]
    return {
        name: next((source for keys, source in given if keys & _names(name)), Source.DEFAULT)
        for name in Settings.model_fields
    }


def without_effect() -> Mapping[str, str]:
    """Variables that are set here, or in `.env`, but have no effect, each with the reason."""
    given = {name.upper() for name, value in os.environ.items() if value}
    given |= {name.upper() for name, value in dotenv_values(".env").items() if value}
    return {name: say(reason) for name, reason in OBSOLETE.items() if name in given}


def misspelt(names: Iterable[str] | None = None) -> Mapping[str, str]:
    """Variables that are set here, or in `.env`, and are nearly named like one of ours: name → the name meant.

    `names`: look at these instead.
    """
    if names is None:
        names = [*os.environ, *dotenv_values(".env")]
    ours = every_variable()
    known = ours | OBSOLETE.keys() | OTHER_VARIABLES
    others = sorted({name for name in names if name.upper() not in known and not name.upper().startswith(OTHERS)})
    meant = {name: difflib.get_close_matches(name.upper(), ours, n=1, cutoff=NEAR) for name in others}
    return {name: found[0] for name, found in meant.items() if found}


def half_given(settings: Settings, origin: Mapping[str, Source]) -> Iterator[str]:
    """One sentence for each pair of credentials of which one half is missing, or comes from another place."""
    for one, other in PAIRS:
        for name, partner in ((one, other), (other, one)):
            if _text(settings, name) and not _text(settings, partner):
                yield say(
                    "{name} is set and {partner} is not; set both, or neither",
                    name=name.upper(),
                    partner=partner.upper(),
                )
        if _text(settings, one) and _text(settings, other) and origin[one] is not origin[other]:
            yield (
                say(
                    "{one} comes from the {origin} and {other} from the {other_origin}, so they hardly belong "
                    "together; set both in the same place",
                    one=one.upper(),
                    origin=origin[one],
                    other=other.upper(),
                    other_origin=origin[other],
                )
            )


def _text(settings: Settings, field: str) -> str:
    value = getattr(settings, field)
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def variables(field: str) -> tuple[str, ...]:
    """The variable names, in lower case, that set `field`: its own name and the accepted older ones."""
    alias = Settings.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        return tuple(str(choice) for choice in alias.choices)
    return (field,)


def every_variable() -> frozenset[str]:
    """The names, in capitals, of all variables that set a setting, or name the file of a secret."""
    return frozenset(variable.upper() for field in Settings.model_fields for variable in _names(field))


def _names(field: str) -> frozenset[str]:
    """As `variables`, and for a secret the variables that name its file."""
    own = frozenset(variables(field))
    is_secret = Settings.model_fields[field].annotation is SecretStr
    return own | {f"{variable}{SUFFIX.lower()}" for variable in own} if is_secret else own


def _secret_files(settings_cls: type[BaseSettings], given: Mapping[str, str | None]) -> InitSettingsSource:
    secrets = [name for name, field in settings_cls.model_fields.items() if field.annotation is SecretStr]
    return InitSettingsSource(settings_cls, dict(secrets_from_files(given, secrets)))


def _without(source: PydanticBaseSettingsSource, names: frozenset[str]) -> PydanticBaseSettingsSource:
    """The source without these variables (in lower case)."""
    if names and isinstance(source, EnvSettingsSource):
        source.env_vars = {name: value for name, value in source.env_vars.items() if name.lower() not in names}
    return source


def _file(settings_cls: type[BaseSettings], path: Path) -> DotEnvSettingsSource:
    return DotEnvSettingsSource(settings_cls, env_file=path, env_file_encoding="utf-8", case_sensitive=False)


def traces_endpoint(settings: Settings) -> str:
    """The address that takes traces; "" if they are off."""
    base = settings.otel_exporter_otlp_endpoint
    return f"{base}/v1/traces" if base else ""


def _share(given: dict[str, Any], of_15: int) -> float:
    """`of_15` fifteenths of the total limit: the default if only the total limit is set."""
    return float(given.get("s3_total_limit_gb", 15)) * of_15 / 15


def _scheme(value: SecretStr, *allowed: str) -> SecretStr:
    if not value.get_secret_value().startswith(allowed):
        raise ValueError(say("must start with one of {allowed}", allowed=", ".join(allowed)))
    if any(unicodedata.category(one) == "Cc" for one in value.get_secret_value()):
        raise ValueError(say("has a line end or another control character; write it on one line"))
    return value


def _addressed(value: SecretStr) -> SecretStr:
    """Clients raise errors of their own for these faults, only when they connect."""
    url = value.get_secret_value()
    if any(one.isspace() for one in url) or not url.partition("://")[2].strip("/"):
        raise ValueError(say("must be scheme://host:port, without spaces"))
    return value


def parse_addresses(setting: str) -> list[tuple[str, int]]:
    """`host:port,[::1]:port` as pairs. Raises ValueError for anything else."""
    found = []
    for address in (item.strip() for item in setting.split(",") if item.strip()):
        host, _, port = address.rpartition(":")
        if not (host and port.isascii() and port.isdigit() and 0 < int(port) <= MAX_PORT):
            raise ValueError(say("must be host:port, separated by commas, and not {address!r}", address=address))
        found.append((host.strip("[]"), int(port)))
    return found


def parse_tokens(setting: SecretStr) -> dict[str, str]:
    """VISION_API_TOKENS, `token=tenant,token=*`, as a mapping of tokens to tenants.

    Raises ValueError for anything else: a mistyped list must not leave the API open.
    """
    items = [item.strip() for item in setting.get_secret_value().split(",") if item.strip()]
    pairs = [(token.strip(), tenant.strip()) for token, _, tenant in (item.rpartition("=") for item in items)]
    if not all(token and tenant for token, tenant in pairs):
        raise ValueError(say("must be token=tenant,token=* (each with a token and a tenant, * for all tenants)"))
    if len(dict(pairs)) < len(pairs):
        raise ValueError(say("has a token twice; give each tenant a token of its own"))
    return dict(pairs)


def parse_prices(setting: str) -> dict[str, Decimal]:
    """VISION_PRICES, `model=roubles,model=roubles`, as a mapping of models to roubles per 1,000 tokens.

    Raises ValueError for anything else.
    """
    items = [item.strip() for item in setting.split(",") if item.strip()]
    pairs = [(model.strip(), price.strip()) for model, _, price in (item.rpartition("=") for item in items)]
    prices: dict[str, Decimal] = {}
    for model, text in pairs:
        try:
            price = Decimal(text)
        except ArithmeticError:
            price = Decimal(-1)
        if not model or not price.is_finite() or price < 0:
            raise ValueError(
                say("must be model=roubles,model=roubles, for example GigaChat-Pro=1.5 (per 1,000 tokens)")
            )
        if model in prices:
            raise ValueError(say("has two prices for {model}; give one", model=model))
        prices[model] = price
    return prices


def _url(value: SecretStr) -> SecretStr:
    """Refuse URLs for which libraries would raise an error text that shows half of the password."""
    try:
        hosts = urlsplit(value.get_secret_value()).netloc.rpartition("@")[2].split(",")
        ports = [host.rpartition("]")[2].partition(":")[2] for host in hosts]
        usable = all(not port or (port.isascii() and int(port) <= MAX_PORT) for port in ports)
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(
            say("is not a URL; in a password write / as %2F, ? as %3F, # as %23, @ as %40, [ as %5B, ] as %5D")
        )
    return value


def _public(value: SecretStr) -> str:
    """A URL that is shown and logged, so it must not contain a secret."""
    url = _url(value).get_secret_value()
    if "@" in urlsplit(url).netloc:
        raise ValueError(say("must not contain a user or a password: it is shown in logs; there are settings for them"))
    return url


def _explain(fault: ValidationError) -> Iterator[str]:
    for error in fault.errors(include_url=False, include_input=False):
        if error["type"] == "default_factory_not_called":
            continue  # a default that depends on another setting, whose error is reported
        where = str(error["loc"][0]).upper() if error["loc"] else "settings"
        yield f"{where}: {error['msg'].removeprefix('Value error, ')}"
