"""A canary in every secret setting is in no text made from the settings. The running worker: test_canaries.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from vision_app.cli.config import effective
from vision_app.settings import Settings, SettingsError, load_settings
from vision_app.stack.plan import without_password
from vision_app.telemetry.logging import SecretMask, secret_values

SECRETS = sorted(name for name, field in Settings.model_fields.items() if field.annotation is SecretStr)
CANARIES = {name: f"canary-{index}-{name.replace('_', '-')}" for index, name in enumerate(SECRETS)}
GIVEN = {
    **CANARIES,
    "redis_url": f"rediss://user:{CANARIES['redis_url']}@host:6379/0",
    "database_url": f"postgresql://user:{CANARIES['database_url']}@one:5432,two:5433/db",
    "database_owner_url": f"postgresql://owner:{CANARIES['database_owner_url']}@one:5432/db",
    "database_session_url": f"postgresql://user:{CANARIES['database_session_url']}@two:5432/db",
    "gigachat_proxy_url": f"http://user:{CANARIES['gigachat_proxy_url']}@proxy:3128",
    # without these, passwords would be refused as having no effect
    "redis_sentinels": "sentinel:26379",
    "redis_sentinel_master": "main",
    "redis_cert_file": "ours.pem",
    "redis_key_file": "ours.key",
    "kafka_security_protocol": "SASL_SSL",
    "kafka_sasl_username": "vision",
    "kafka_cert_file": "ours.pem",
    "kafka_key_file": "ours.key",
    "otel_exporter_otlp_headers": f"authorization=Bearer%20{CANARIES['otel_exporter_otlp_headers']}",
    "vision_api_tokens": f"{CANARIES['vision_api_tokens']}=acme,{CANARIES['vision_api_tokens']}-2=*",
}


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("VISION_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def test_what_is_called_a_secret_is_one() -> None:
    telling = re.compile(r"password|secret|credential|access_key|api_tokens|_token$")
    assert {name for name in Settings.model_fields if telling.search(name)} <= set(SECRETS)
    assert {"redis_url", "database_url"} <= set(SECRETS), "URLs that hold passwords"


def test_no_text_made_of_the_settings_holds_a_canary() -> None:
    settings = load_settings(**GIVEN)
    texts = [repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()]
    texts += [f"{value.variable}={value.value}" for value in effective(settings)]
    for name, canary in CANARIES.items():
        assert not [text for text in texts if canary in text], name
        assert any(canary in value for value in secret_values(settings)), f"{name} would not be masked in the log"


@pytest.mark.parametrize("name", SECRETS)
def test_a_value_that_cannot_be_used_is_not_repeated(name: str) -> None:
    for wrong in (f"canary://{CANARIES[name]}", f"{CANARIES[name]},{CANARIES[name]}"):
        with pytest.raises(SettingsError, match="LOG_LEVEL") as fault:
            load_settings(**{**GIVEN, name: wrong, "log_level": "loud"})
        assert "canary" not in str(fault.value)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("redis_url", "redis://:cana/ry@host:6379/0"),
        ("redis_url", "redis://:can[ary@host:6379/0"),
        ("database_url", "postgresql://user:cana#ry@host:5432/db"),
        ("database_url", "postgresql://user:cana?ry@host:5432/db"),
        ("database_url", "postgresql://user:pw@host:canary/db"),
    ],
)
def test_an_unencoded_password_is_reported_without_any_part_of_it(name: str, url: str) -> None:
    with pytest.raises(SettingsError, match="is not a URL; in a password write / as %2F") as fault:
        load_settings(**{name: url})
    assert "cana" not in str(fault.value)


@pytest.mark.parametrize("name", ["s3_endpoint_url", "gigachat_base_url", "gigachat_auth_url", "neo4j_uri"])
def test_addresses_that_are_shown_may_hold_no_credentials(name: str) -> None:
    scheme = "bolt" if name == "neo4j_uri" else "https"
    for user in ("user:canary", "canary", ":canary"):
        with pytest.raises(SettingsError, match=f"{name.upper()}: must not contain a user or a password") as fault:
            load_settings(**{name: f"{scheme}://{user}@host:1234/path"})
        assert "canary" not in str(fault.value)
    assert load_settings(**{name: f"{scheme}://host:1234/path@x"})


@pytest.mark.parametrize(
    "wrong", ["justatoken", "=tenant", "token=", "a=b,c", "twice=a,twice=b", "a=b,=", "token = , x=y"]
)
def test_a_mistyped_list_of_tokens_does_not_leave_the_api_open(wrong: str) -> None:
    with pytest.raises(SettingsError, match="VISION_API_TOKENS: "):
        load_settings(vision_api_tokens=wrong, vision_api_host="0.0.0.0")  # noqa: S104 - the case that matters


def test_passwords_in_parameters_are_secret_too() -> None:
    url = "postgresql://user@host/db?sslmode=require&password=can%40ary&sslpassword=other"
    settings = load_settings(database_url=url)
    assert {"can%40ary", "can@ary", "other"} <= secret_values(settings)
    assert without_password(url) == "postgresql://user@host/db?sslmode=require&password=********&sslpassword=********"
    assert without_password("unix:///run/redis.sock?db=0&password=x") == "unix:///run/redis.sock?db=0&password=********"
    assert without_password("redis://:p@h/0") == "redis://:********@h/0"


def test_the_mask_covers_every_canary_in_any_value() -> None:
    mask = SecretMask(secret_values(load_settings(**GIVEN)))
    for canary in CANARIES.values():
        line = mask(None, "", {"event": f"x{canary}y", "deep": {"k": [canary.encode(), (canary,)]}})
        assert canary not in str(line)
