"""Settings: names, sources and faults as an operator sees them."""

from __future__ import annotations

from pathlib import Path

import pytest

from vision_app.settings import OBSOLETE, Settings, SettingsError, Source, load_settings, sources, without_effect


@pytest.fixture(autouse=True)
def empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without `.env`, an embedded stack's home without `env`, and none of our variables set."""
    for name in {*Settings.model_fields, *(name.lower() for name in OBSOLETE)}:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("VISION_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("VISION_MAX_DAILY_TOKENS", "many", "integer"),
        ("VISION_MAX_DAILY_TOKENS", "-1", "greater than or equal to 0"),
        ("LOG_LEVEL", "loud", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("REDIS_URL", "http://example", "redis://"),
        ("DATABASE_URL", "mysql://example", "postgresql://"),
        ("NEO4J_URI", "http://example", "bolt://"),
        ("S3_ENDPOINT_URL", "example", "http://"),
        ("S3_ENDPOINT_URL", "http://s3.example\nx", "control character"),
        ("S3_ENDPOINT_URL", "http://s3 .example", "without spaces"),
        ("S3_ENDPOINT_URL", "http://", "scheme://host:port"),
        ("S3_ENDPOINT_URL", "http://s3.example:99999", "is not a URL"),
        ("GIGACHAT_BASE_URL", "https://a\tb", "control character"),
        ("DATABASE_URL", "postgresql://u@h/d\n", "control character"),
        ("REDIS_URL", "redis://h\r\n", "control character"),
        ("VISION_INPUT_STREAMS", " , ,", "at least one stream"),
        ("GIGACHAT_SCOPE", "GIGACHAT_API_ALL", "GIGACHAT_API_PERS"),
        ("VISION_API_PORT", "70000", "65535"),
        ("VISION_API_HOST", "everywhere", "IPv4 or IPv6"),
    ],
)
def test_a_wrong_value_is_one_line_with_variable_fault_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as fault:
        load_settings()
    [line] = str(fault.value).splitlines()
    assert line.startswith(f"{variable}: ")
    assert says in line


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"KAFKA_SECURITY_PROTOCOL": "TLS"}, "'PLAINTEXT', 'SSL', 'SASL_PLAINTEXT' or 'SASL_SSL'"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "kafka.example"}, "must be host:port"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "kafka://user@kafka.example:9092"}, "without a scheme, user or password"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "a:9092,"}, "must be host:port"),
        (
            {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"},
            "KAFKA_SECURITY_PROTOCOL=SASL_SSL needs KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD",
        ),
        (
            {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_SASL_USERNAME": "vision"},
            "KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT needs KAFKA_SASL_PASSWORD",
        ),
        (
            {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SASL_PASSWORD": "canary"},
            "KAFKA_SASL_PASSWORD would not be used with KAFKA_SECURITY_PROTOCOL=SSL",
        ),
        ({"KAFKA_CA_FILE": "ca.pem"}, "KAFKA_CA_FILE would not be used with KAFKA_SECURITY_PROTOCOL=PLAINTEXT"),
        (
            {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_CERT_FILE": "our.pem"},
            "KAFKA_CERT_FILE and KAFKA_KEY_FILE belong together",
        ),
        (
            {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_KEY_PASSWORD": "canary"},
            "KAFKA_KEY_PASSWORD is set and KAFKA_KEY_FILE is not",
        ),
    ],
)
def test_settings_of_kafka_that_do_not_fit_are_one_line(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], says: str
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as fault:
        load_settings()
    [line] = str(fault.value).splitlines()
    assert says in line
    assert "canary" not in line


def test_several_faults_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "loud")
    monkeypatch.setenv("METRICS_PORT", "none")
    with pytest.raises(SettingsError) as fault:
        load_settings()
    assert {line.partition(":")[0] for line in str(fault.value).splitlines()} == {"LOG_LEVEL", "METRICS_PORT"}


def test_a_secret_in_a_wrong_value_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://user:canary@example")
    with pytest.raises(SettingsError) as fault:
        load_settings()
    assert "canary" not in str(fault.value)


def test_an_open_address_needs_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISION_API_HOST", "0.0.0.0")  # noqa: S104 - what must be refused
    with pytest.raises(SettingsError, match="VISION_API_TOKENS"):
        load_settings()
    monkeypatch.setenv("VISION_API_TOKENS", "secret=acme")
    assert load_settings().vision_api_host == "0.0.0.0"  # noqa: S104 - never listened on


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ({"VISION_API_TOKENS": "one=t1", "VISION_API_AUTH": "off"}, "remove VISION_API_AUTH=off"),
        ({"VISION_API_AUTH": "on"}, "set VISION_API_TOKENS"),
        ({"VISION_API_AUTH": "on", "VISION_API_TOKENS": " , "}, "set VISION_API_TOKENS"),
    ],
)
def test_contradictory_settings_of_authentication_are_refused(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], remedy: str
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    (line,) = str(refused.value).splitlines()
    assert remedy in line
    assert "one=t1" not in line


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"VISION_API_AUTH": ""},
        {"VISION_API_AUTH": "off"},
        {"VISION_API_AUTH": "auto"},
        {"VISION_API_AUTH": "auto", "VISION_API_TOKENS": "one=t1"},
        {"VISION_API_AUTH": "on", "VISION_API_TOKENS": "one=t1"},
        {"VISION_API_AUTH": "auto", "VISION_API_HOST": "0.0.0.0"},  # noqa: S104 - never listened on
        {"VISION_API_TOKENS": "one=t1"},
    ],
)
def test_consistent_settings_of_authentication_are_accepted(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str]
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    load_settings()


def test_the_environment_beats_dotenv_beats_the_stack(empty_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (empty_place / "home" / "env").write_text("REDIS_URL=redis://stack\nLOG_LEVEL=ERROR\nS3_BUCKET=stack\n")
    (empty_place / ".env").write_text("LOG_LEVEL=DEBUG\nS3_BUCKET=dotenv\n")
    monkeypatch.setenv("S3_BUCKET", "environment")
    settings = load_settings()
    assert settings.redis_url.get_secret_value() == "redis://stack"
    assert (settings.log_level, settings.s3_bucket) == ("DEBUG", "environment")
    told = sources()
    assert (told["redis_url"], told["log_level"]) == (Source.STACK, Source.DOTENV)
    assert (told["s3_bucket"], told["neo4j_uri"]) == (Source.ENVIRONMENT, Source.DEFAULT)


def test_the_assistants_older_names_still_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIGACHAT_MAX_DAILY_TOKENS", "77")
    monkeypatch.setenv("S3_STORAGE_LIMIT_GB", "3")
    settings = load_settings()
    assert (settings.vision_max_daily_tokens, settings.s3_total_limit_gb) == (77, 3)
    assert sources()["vision_max_daily_tokens"] is Source.ENVIRONMENT
    monkeypatch.setenv("VISION_MAX_DAILY_TOKENS", "5")
    assert load_settings().vision_max_daily_tokens == 5, "the guide's name wins"


def test_the_bucket_s_thresholds_follow_from_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings()
    assert (settings.s3_emergency_threshold_gb, settings.s3_cleanup_target_gb) == (14, 12)
    monkeypatch.setenv("S3_TOTAL_LIMIT_GB", "30")
    assert (load_settings().s3_emergency_threshold_gb, load_settings().s3_cleanup_target_gb) == (28, 24)
    monkeypatch.setenv("S3_CLEANUP_TARGET_GB", "29")
    with pytest.raises(SettingsError, match="must not fall in this order: they are 29, 28 and 30"):
        load_settings()


def test_credentials_are_one_value_or_the_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not load_settings().gigachat_authorization.get_secret_value()
    monkeypatch.setenv("GIGACHAT_CLIENT_ID", "id")
    monkeypatch.setenv("GIGACHAT_CLIENT_SECRET", "secret")
    assert load_settings().gigachat_authorization.get_secret_value() == "aWQ6c2VjcmV0"
    monkeypatch.setenv("GIGACHAT_CREDENTIALS", "given")
    assert load_settings().gigachat_authorization.get_secret_value() == "given"


def test_variables_without_effect_are_named_with_the_reason(empty_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not without_effect()
    monkeypatch.setenv("GIGACHAT_VERIFY_SSL", "false")
    (empty_place / ".env").write_text("VISION_PHASH_ENABLED=true\n")
    assert set(without_effect()) == {"GIGACHAT_VERIFY_SSL", "VISION_PHASH_ENABLED"}
    assert not set(OBSOLETE) & {name.upper() for name in Settings.model_fields}
