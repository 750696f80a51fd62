"""Every setting of the service, in one place. A field's name in capitals is its environment variable.

Values come, in this order, from the environment, from the file `.env`, from `.vision/env` (written by the embedded
stack) and from the defaults here. `vision config` shows the effective values and where each came from.
"""

from __future__ import annotations

import base64
import ipaddress
import os
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, DotEnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, le=1)]
MAX_PORT = 65535
Port = Annotated[int, Field(ge=0, le=MAX_PORT)]


OBSOLETE: Mapping[str, str] = {
    "FEATURE_ALLOW_NON_UUID_IDS": "every id is taken as text, and travels as it came",
    "VISION_DLQ_ENABLED": "what cannot be processed is always kept",
    "VISION_IDEMPOTENCY_TTL_HOURS": "nothing is decided by the Redis marks",
    "VISION_TOKENS_COUNT_ENABLED": "the provider cannot count a picture's tokens; they are estimated from its size",
    "VISION_PREPROCESS_GRAYSCALE": "colours are part of the answer",
    "VISION_DEFAULT_PROMPT": "prompts are versioned files (vision_app/prompts): a change must change the cache key",
    "VISION_LEGACY_PROMPT": "prompts are versioned files (vision_app/prompts): a change must change the cache key",
    "VISION_OCR_ENGINE": "OCR is Tesseract; install it with the languages of VISION_OCR_LANGUAGES",
    "VISION_LOCAL_OCR_PRIMARY_ENABLED": "OCR is a fallback only, as the policy's fallback section says",
    "VISION_LOW_PRIORITY_QUEUE_ENABLED": "what the budget cannot pay today waits and is analyzed later",
    "VISION_PHASH_ENABLED": "answers are shared between equal pictures only, by sha256",
    "VISION_ROI_CROP_ENABLED": "pictures are scaled, never cropped",
    "VISION_EXPERIMENT_CONFIG_PATH": "there are no experiments",
    "ENRICHMENT_CONFIG_PATH": "set VISION_OCR_FALLBACK_ENABLED",
    "GIGACHAT_VERIFY_SSL": "TLS is always verified; name the state's root certificate in GIGACHAT_CA_BUNDLE_FILE",
}
"""Variables of the assistant that have no effect here, and what stands in their place."""


class SettingsError(Exception):
    """One or more settings have a value that cannot be used. Correct the variables named below and start again."""


class Source(StrEnum):
    """Where the effective value of a setting came from."""

    ENVIRONMENT = "environment"
    DOTENV = ".env"
    STACK = "embedded stack"
    DEFAULT = "default"


def vision_home() -> Path:
    """The folder of the embedded stack: data, logs and its `env` file. `VISION_HOME`, else `.vision` here."""
    return Path(os.environ.get("VISION_HOME", ".vision")).absolute()


class Settings(BaseSettings):
    """The effective configuration. Times carry their unit in the name, sizes too."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, case_sensitive=False, env_ignore_empty=True)

    # --- features
    feature_vision_enabled: bool = True
    feature_neo4j_enabled: bool = True
    feature_vision_emit_skipped_events: bool = True

    # --- Redis: the input and output streams
    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    vision_input_streams: str = "stream:posts:vision:uploaded,stream:posts:vision"
    vision_output_stream: str = "stream:posts:vision:analyzed"
    vision_dlq_stream: str = "stream:posts:vision:dlq"
    vision_consumer_group: str = "vision_workers"
    vision_max_deliveries: Positive = 5
    vision_pel_min_idle_ms: Positive = 60_000
    vision_pel_batch_size: Positive = 10
    vision_pending_check_interval: Positive = 5  # seconds between looks at other consumers' pending entries
    vision_read_batch_size: Positive = 100

    # --- Kafka and Faust
    kafka_bootstrap_servers: str = "127.0.0.1:9092"
    kafka_app_id: str = "vision"
    kafka_topic_partitions: Positive = 8
    kafka_topic_replication_factor: Positive = 1
    kafka_retention_days: Positive = 14
    kafka_dlq_retention_days: Positive = 30
    kafka_session_timeout_seconds: Positive = 10
    kafka_store: str = "memory://"

    # --- Postgres
    database_url: SecretStr = SecretStr("postgresql://postgres@127.0.0.1:5432/postgres")

    # --- S3
    s3_endpoint_url: str = "http://127.0.0.1:9000"
    s3_access_key_id: SecretStr = SecretStr("")
    s3_secret_access_key: SecretStr = SecretStr("")
    s3_bucket: str = Field("vision", validation_alias=AliasChoices("s3_bucket", "s3_bucket_name"))
    s3_region: str = "ru-central-1"
    s3_default_tenant_id: str = "default"
    s3_total_limit_gb: float = Field(
        15, gt=0, validation_alias=AliasChoices("s3_total_limit_gb", "s3_storage_limit_gb")
    )
    s3_emergency_threshold_gb: float = Field(default_factory=lambda given: _share(given, 14), gt=0)  # 14 of 15
    s3_cleanup_target_gb: float = Field(default_factory=lambda given: _share(given, 12), gt=0)  # 12 of 15
    s3_per_tenant_limit_gb: float = Field(2, gt=0)
    s3_media_max_gb: float = Field(10, gt=0)
    s3_media_ttl_days: Positive = 30
    s3_vision_max_gb: float = Field(2, gt=0)
    s3_vision_ttl_days: Positive = 14
    s3_crawl_max_gb: float = Field(2, gt=0)
    s3_crawl_ttl_days: Positive = 7
    s3_emergency_vision_days: float = Field(7, ge=0)  # in an emergency, answers older than this give way
    s3_emergency_crawl_days: float = Field(3, ge=0)
    s3_upload_grace_hours: float = Field(336, ge=0)  # how long an upload that no post has listed yet is kept
    s3_cleanup_interval_hours: float = Field(6, gt=0)
    s3_recount_interval_minutes: float = Field(30, gt=0)

    # --- Neo4j
    neo4j_uri: str = "bolt://127.0.0.1:7687"
    neo4j_user: str = Field("neo4j", validation_alias=AliasChoices("neo4j_user", "neo4j_username"))
    neo4j_password: SecretStr = SecretStr("changeme")

    # --- GigaChat
    gigachat_credentials: SecretStr = SecretStr("")  # base64(client_id:client_secret)
    gigachat_client_id: str = ""
    gigachat_client_secret: SecretStr = SecretStr("")
    gigachat_scope: Literal["GIGACHAT_API_PERS", "GIGACHAT_API_B2B", "GIGACHAT_API_CORP"] = "GIGACHAT_API_PERS"
    gigachat_base_url: str = "https://gigachat.devices.sberbank.ru/api/v1"
    gigachat_auth_url: str = "https://ngw.devices.sberbank.ru:9443/api/v2/oauth"
    gigachat_vision_model: str = "GigaChat-Pro"
    gigachat_vision_timeout: Positive = 45  # seconds at the provider for one picture: upload, answer, deletion
    gigachat_ca_bundle_file: Path | None = None
    gigachat_simulated: bool = False  # set by the embedded stack when answers come from the simulator
    vision_provider_streams: Positive = 10  # requests in flight per account, all workers together
    vision_api_max_retries: int = Field(3, ge=0)
    vision_max_output_tokens: Positive = 512
    gigachat_circuit_breaker_failure_threshold: Positive = 5
    gigachat_circuit_breaker_recovery_timeout: Positive = 60

    # --- policy, preprocessing, OCR
    vision_policy_config_path: Path | None = None  # none: the policy shipped in config/vision_policy.yml
    vision_preprocess_enabled: bool = True
    vision_preprocess_max_dim: int = Field(1024, ge=64, le=8192)
    vision_preprocess_jpeg_quality: int = Field(75, ge=1, le=95)
    vision_decoding_timeout: Positive = 15  # seconds of processor time for one picture; the slowest usual one takes 3
    vision_decoding_memory_mb: int = Field(1280, ge=128)  # per process; 60 million pixels take up to 993
    vision_ocr_fallback_enabled: bool = True
    vision_ocr_languages: str = "rus+eng"
    vision_ocr_timeout: Positive = 30

    # --- budget
    vision_max_daily_tokens: int = Field(
        250_000, ge=0, validation_alias=AliasChoices("vision_max_daily_tokens", "gigachat_max_daily_tokens")
    )
    vision_max_concurrent_requests: int = Field(
        3, gt=0, validation_alias=AliasChoices("vision_max_concurrent_requests", "gigachat_max_concurrent_requests")
    )
    vision_max_queue_depth: Positive = 1000
    vision_handler_deadline_seconds: Positive = 60
    vision_grant_key: SecretStr = SecretStr("")  # the ledger signs grants with it; none: S3's secret key stands in
    vision_stall_seconds: float = Field(120, ge=1)  # work that waits for nothing known for longer stands still

    # --- web, metrics, logs
    vision_api_host: str = "127.0.0.1"
    vision_api_port: Port = 8000
    vision_api_tokens: SecretStr = SecretStr("")  # "token=tenant,token=*"
    vision_api_auth: Literal["on", "auto", "off"] = "on"  # auto: on as soon as there are tokens, else off
    vision_allowed_hosts: str = ""  # host names with a dot under which open ports may be asked; * for all
    vision_api_rate_per_second: float = Field(100, gt=0)  # of each token, or of each address where there are none
    vision_api_max_body_bytes: Positive = 65_536
    vision_api_max_connections: Positive = 256
    vision_api_caller_requests: Positive = 64  # in work at once, of each token (or address); a quarter of all
    vision_api_caller_bytes: Positive = 1_048_576  # of bodies on their way at once, of each token (or address)
    vision_api_idle_seconds: float = Field(30, gt=0)  # a connection without a whole request, between requests, too
    vision_api_timeout_seconds: float = Field(30, gt=0)  # from a request's headers to its answer
    metrics_host: str = "127.0.0.1"
    metrics_port: Port = 8001
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] = "json"

    @field_validator("vision_api_host", "metrics_host")
    @classmethod
    def _address(cls, value: str) -> str:
        ipaddress.ip_address(value)
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: SecretStr) -> SecretStr:
        return _url(_scheme(value, "redis://", "rediss://", "unix://"))

    @field_validator("database_url")
    @classmethod
    def _database(cls, value: SecretStr) -> SecretStr:
        return _url(_scheme(value, "postgresql://", "postgres://"))

    @field_validator("s3_endpoint_url", "gigachat_base_url", "gigachat_auth_url")
    @classmethod
    def _http(cls, value: str) -> str:
        return _public(_scheme(SecretStr(value), "http://", "https://")).rstrip("/")

    @field_validator("neo4j_uri")
    @classmethod
    def _neo4j(cls, value: str) -> str:
        return _public(
            _scheme(SecretStr(value), "bolt://", "bolt+s://", "bolt+ssc://", "neo4j://", "neo4j+s://", "neo4j+ssc://")
        )

    @field_validator("vision_api_tokens")
    @classmethod
    def _tokens(cls, value: SecretStr) -> SecretStr:
        parse_tokens(value)
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
                "VISION_API_HOST is not a loopback address and nobody would have to authenticate; "
                "set VISION_API_TOKENS=token=tenant,… or, if something in front authenticates, VISION_API_AUTH=off"
            )
        return self

    @model_validator(mode="after")
    def _one_wish(self) -> Settings:
        """Two settings that contradict each other are refused: which one is meant must not be guessed."""
        tokens, auth = bool(parse_tokens(self.vision_api_tokens)), self.vision_api_auth
        if tokens and auth == "off":
            raise ValueError(
                "VISION_API_TOKENS is set and VISION_API_AUTH=off says that nobody needs a token; "
                "remove VISION_API_AUTH=off to have the tokens checked, or VISION_API_TOKENS to leave the API open"
            )
        if not tokens and auth == "on" and "vision_api_auth" in self.model_fields_set:
            raise ValueError(
                "VISION_API_AUTH=on and there are no tokens, so that nobody could be let in or kept out; "
                "set VISION_API_TOKENS=token=tenant,token=* or remove VISION_API_AUTH"
            )
        return self

    @model_validator(mode="after")
    def _room(self) -> Settings:
        if not self.s3_cleanup_target_gb <= self.s3_emergency_threshold_gb <= self.s3_total_limit_gb:
            raise ValueError(
                "S3_CLEANUP_TARGET_GB, S3_EMERGENCY_THRESHOLD_GB and S3_TOTAL_LIMIT_GB must not fall in this order: "
                f"they are {self.s3_cleanup_target_gb:g}, {self.s3_emergency_threshold_gb:g} and "
                f"{self.s3_total_limit_gb:g}"
            )
        return self

    @property
    def input_streams(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.vision_input_streams.split(",") if name.strip())

    @property
    def gigachat_authorization(self) -> SecretStr:
        """base64(client_id:client_secret), from GIGACHAT_CREDENTIALS or the pair; empty when neither is set."""
        if self.gigachat_credentials.get_secret_value() or not self.gigachat_client_id:
            return self.gigachat_credentials
        pair = f"{self.gigachat_client_id}:{self.gigachat_client_secret.get_secret_value()}"
        return SecretStr(base64.b64encode(pair.encode()).decode())

    @property
    def grant_secret(self) -> str:
        """What all workers of an installation share and nobody else knows."""
        return self.vision_grant_key.get_secret_value() or self.s3_secret_access_key.get_secret_value()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (
            init_settings,
            env_settings,
            _file(settings_cls, Path(".env")),
            _file(settings_cls, vision_home() / "env"),
        )


def load_settings(**overrides: Any) -> Settings:
    """Read the settings.

    Raises SettingsError with one line per fault: the variable, what is wrong, what is allowed.
    """
    try:
        return Settings(**overrides)
    except ValidationError as fault:
        raise SettingsError("\n".join(_explain(fault))) from None


def sources() -> Mapping[str, Source]:
    """For every setting, where its effective value comes from."""
    files = ((Path(".env"), Source.DOTENV), (vision_home() / "env", Source.STACK))
    given: list[tuple[set[str], Source]] = [({k.lower() for k, v in os.environ.items() if v}, Source.ENVIRONMENT)]
    given += [({k.lower() for k, v in _file(Settings, path)().items() if v}, source) for path, source in files]
    return {
        name: next((source for keys, source in given if keys & set(variables(name))), Source.DEFAULT)
        for name in Settings.model_fields
    }


def without_effect() -> Mapping[str, str]:
    """Variables that are set here, or in `.env`, but have no effect, each with the reason."""
    given = {name.upper() for name, value in os.environ.items() if value}
    given |= {name.upper() for name, value in dotenv_values(".env").items() if value}
    return {name: reason for name, reason in OBSOLETE.items() if name in given}


def variables(field: str) -> tuple[str, ...]:
    """The variable names, in lower case, that set `field`: its own name and the accepted older ones."""
    alias = Settings.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        return tuple(str(choice) for choice in alias.choices)
    return (field,)


def every_variable() -> frozenset[str]:
    """The names, in capitals, of all variables that set a setting."""
    return frozenset(variable.upper() for field in Settings.model_fields for variable in variables(field))


def _file(settings_cls: type[BaseSettings], path: Path) -> DotEnvSettingsSource:
    return DotEnvSettingsSource(settings_cls, env_file=path, env_file_encoding="utf-8", case_sensitive=False)


def _share(given: dict[str, Any], of_15: int) -> float:
    """So many fifteenths of the total limit, which may have been given alone."""
    return float(given.get("s3_total_limit_gb", 15)) * of_15 / 15


def _scheme(value: SecretStr, *allowed: str) -> SecretStr:
    if not value.get_secret_value().startswith(allowed):
        raise ValueError(f"must start with one of {', '.join(allowed)}")
    return value


def parse_tokens(setting: SecretStr) -> dict[str, str]:
    """VISION_API_TOKENS, `token=tenant,token=*`, as a mapping of tokens to tenants.

    Raises ValueError for anything else: a mistyped list must not leave the API open.
    """
    items = [item.strip() for item in setting.get_secret_value().split(",") if item.strip()]
    pairs = [(token.strip(), tenant.strip()) for token, _, tenant in (item.rpartition("=") for item in items)]
    if not all(token and tenant for token, tenant in pairs):
        raise ValueError("must be token=tenant,token=* (each with a token and a tenant, * for all tenants)")
    if len(dict(pairs)) < len(pairs):
        raise ValueError("has a token twice; give each tenant a token of its own")
    return dict(pairs)


def _url(value: SecretStr) -> SecretStr:
    """Refuse what libraries would refuse with a text that repeats half of the password."""
    try:
        hosts = urlsplit(value.get_secret_value()).netloc.rpartition("@")[2].split(",")
        ports = [host.rpartition("]")[2].partition(":")[2] for host in hosts]
        usable = all(not port or (port.isascii() and int(port) <= MAX_PORT) for port in ports)
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("is not a URL; in a password write / as %2F, ? as %3F, # as %23, @ as %40, [ as %5B, ] as %5D")
    return value


def _public(value: SecretStr) -> str:
    """A URL that is shown and logged, so nothing secret may be in it."""
    url = _url(value).get_secret_value()
    if "@" in urlsplit(url).netloc:
        raise ValueError("must not contain a user or a password: it is shown in logs; there are settings for them")
    return url


def _explain(fault: ValidationError) -> Iterator[str]:
    for error in fault.errors(include_url=False, include_input=False):
        if error["type"] == "default_factory_not_called":
            continue  # a default that follows from other settings, one of which is told of here
        where = str(error["loc"][0]).upper() if error["loc"] else "settings"
        yield f"{where}: {error['msg'].removeprefix('Value error, ')}"
