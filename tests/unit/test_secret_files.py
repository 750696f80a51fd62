"""Secrets from files, as Docker and Kubernetes mount them."""

from __future__ import annotations

from pathlib import Path

import pytest

from vision_app.secret_files import MAX_BYTES
from vision_app.settings import Settings, SettingsError, Source, load_settings, sources


@pytest.fixture(autouse=True)
def empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)
    monkeypatch.setenv("VISION_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("content", ["canary", "canary\n", "canary\r\n"])
def test_a_secret_is_read_from_the_file_that_its_variable_names(
    empty_place: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    path = empty_place / "secret"
    path.write_bytes(content.encode())
    monkeypatch.setenv("NEO4J_PASSWORD_FILE", str(path))
    assert load_settings().neo4j_password.get_secret_value() == "canary"
    assert sources()["neo4j_password"] is Source.ENVIRONMENT


def test_the_file_may_be_named_in_dotenv_and_the_environment_counts_first(
    empty_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty_place / "secret").write_text("from the file")
    (empty_place / ".env").write_text(
        "KAFKA_SECURITY_PROTOCOL=SASL_SSL\nKAFKA_SASL_USERNAME=worker\nKAFKA_SASL_PASSWORD_FILE=secret\n"
    )
    assert load_settings().kafka_sasl_password.get_secret_value() == "from the file"
    assert sources()["kafka_sasl_password"] is Source.DOTENV
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", "from the environment")
    assert load_settings().kafka_sasl_password.get_secret_value() == "from the environment"


def test_a_url_with_a_password_may_come_from_a_file(empty_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (empty_place / "url").write_text("mysql://user:canary@example")
    monkeypatch.setenv("DATABASE_URL_FILE", "url")
    with pytest.raises(SettingsError, match="DATABASE_URL: must start with one of") as fault:
        load_settings()
    assert "canary" not in str(fault.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"", "is empty; write the secret into it"),
        (b"\n", "is empty; write the secret into it"),
        (b"\xff\xfe", "is not a text file in UTF-8"),
        (b"x" * (MAX_BYTES + 1), "is larger than 64 kB"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line_with_its_variable(
    empty_place: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, says: str
) -> None:
    if content is not None:
        (empty_place / "secret").write_bytes(content)
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY_FILE", "secret")
    with pytest.raises(SettingsError) as fault:
        load_settings()
    [line] = str(fault.value).splitlines()
    assert line.startswith("S3_SECRET_ACCESS_KEY_FILE: secret ")
    assert says in line


def test_a_secret_and_its_file_at_once_are_refused(empty_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (empty_place / "secret").write_text("canary")
    monkeypatch.setenv("NEO4J_PASSWORD", "other")
    monkeypatch.setenv("NEO4J_PASSWORD_FILE", "secret")
    with pytest.raises(SettingsError, match="NEO4J_PASSWORD_FILE: NEO4J_PASSWORD is set as well; remove one of them"):
        load_settings()


def test_only_secrets_come_from_files(empty_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (empty_place / "level").write_text("DEBUG")
    monkeypatch.setenv("LOG_LEVEL_FILE", "level")
    assert load_settings().log_level == "INFO"
