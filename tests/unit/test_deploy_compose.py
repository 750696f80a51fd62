"""docker-compose.yml against our rules. That the compose tool accepts the file is checked by `make image-check`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values

from vision_app.settings import Settings, load_settings, parse_tokens, variables

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
EXAMPLE = dotenv_values(ROOT / ".env.example")

SETTINGS = {variable.upper() for field in Settings.model_fields for variable in variables(field)}
OF_COMPOSE = {"COMPOSE_PROFILES", "POSTGRES_PASSWORD"}
"""Variables of .env that are not our settings: compose's own, and the password that is part of DATABASE_URL."""
OF_THE_WORKER = {"VISION_HOME", "VISION_WORKER_ID"}
"""Read from the environment by the worker without being settings."""
DEMO_SECRETS = {
    "POSTGRES_PASSWORD": "changeme",
    "NEO4J_PASSWORD": "changeme",
    "S3_ACCESS_KEY_ID": "vision-demo",
    "S3_SECRET_ACCESS_KEY": "changeme-changeme",
}
OWN_IMAGE = {"worker", "gigachat"}
WRITES_ITS_OWN_FOLDERS = {"kafka", "neo4j"}
"""Their start scripts write configuration beside the programs, so their roots stay writable."""
STARTS_AS_ROOT = {"postgres", "neo4j"}
"""Their start scripts give the data to their own user and then run as that user."""

every_service = pytest.mark.parametrize("name", SERVICES)


def interpolated(text: str) -> set[str]:
    return set(re.findall(r"(?<!\$)\$\{([A-Z0-9_]+)", text))


def test_the_services_of_the_guide_under_its_names() -> None:
    assert set(SERVICES) == {"worker", "redis", "kafka", "postgres", "neo4j", "s3", "gigachat"}
    assert {name: service["container_name"] for name, service in SERVICES.items()} == {name: name for name in SERVICES}


def test_only_the_simulator_is_optional() -> None:
    assert {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service} == {
        "gigachat": ["demo"]
    }


def test_only_api_and_metrics_are_published_and_only_on_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"worker": ["127.0.0.1:8000:8000", "127.0.0.1:8001:8001"]}
    assert not [name for name, service in SERVICES.items() if "network_mode" in service]


@every_service
def test_images_are_pinned(name: str) -> None:
    image = SERVICES[name]["image"]
    assert re.fullmatch(r"[a-z0-9/-]+:\d+\.\d+\.?\d*(-[a-z]+)?", image), image
    if name in OWN_IMAGE:
        assert SERVICES[name]["pull_policy"] == "build"


@every_service
def test_health_is_checked(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in ("CMD", "CMD-SHELL")
    assert {"interval", "timeout", "retries", "start_period"} <= set(check)


def test_the_worker_starts_when_its_services_are_healthy() -> None:
    awaited = SERVICES["worker"]["depends_on"]
    assert set(awaited) == set(SERVICES) - {"worker"}
    assert {wait["condition"] for wait in awaited.values()} == {"service_healthy"}
    assert [name for name, wait in awaited.items() if wait.get("required") is False] == ["gigachat"]


@every_service
def test_containers_are_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "pids_limit", "restart", "logging"} <= set(service)
    assert "privileged" not in service
    assert "cap_add" not in service
    assert service.get("read_only", False) is (name not in WRITES_ITS_OWN_FOLDERS)
    assert (service.get("cap_drop") == ["ALL"]) is (name not in STARTS_AS_ROOT)
    assert "/var/run/docker.sock" not in str(service.get("volumes"))


def test_only_the_worker_reaches_the_outside() -> None:
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert [name for name, service in SERVICES.items() if service["networks"] != ["inside"]] == ["worker"]


def test_data_is_kept_in_named_volumes() -> None:
    mounts = [mount.split(":") for service in SERVICES.values() for mount in service.get("volumes", ())]
    named = {source for source, *_ in mounts if not source.startswith(".")}
    assert named == set(COMPOSE["volumes"])
    assert [mount for mount in mounts if mount[0].startswith(".")] == [["./config", "/app/config", "ro"]]
    assert {name for name, service in SERVICES.items() if not service.get("volumes")} == {"gigachat"}


def test_redis_persists_and_never_evicts() -> None:
    command = " ".join(SERVICES["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_the_worker_has_time_to_end_its_calls() -> None:
    grace = int(SERVICES["worker"]["stop_grace_period"].removesuffix("s"))
    assert grace > Settings.model_fields["vision_handler_deadline_seconds"].default + 15


def test_secrets_stand_in_no_committed_file_but_as_demo_values() -> None:
    secret = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY|CREDENTIALS|AUTH_KEY|_AUTH$|DATABASE_URL")
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if secret.search(variable) and variable != "VISION_API_AUTH":
                assert "${" in str(value), f"{name}: {variable} is a literal"
    given = {n: v for n, v in EXAMPLE.items() if v and secret.search(n) and n in DEMO_SECRETS | dict.fromkeys(SETTINGS)}
    assert {n: v for n, v in given.items() if n not in {"VISION_MAX_DAILY_TOKENS", "VISION_API_AUTH"}} == DEMO_SECRETS


def test_every_variable_used_is_explained_in_the_example() -> None:
    assert interpolated(TEXT) <= set(EXAMPLE)


def test_every_variable_of_the_example_means_something() -> None:
    assert set(EXAMPLE) <= SETTINGS | OF_COMPOSE


def test_the_worker_is_given_known_settings_only() -> None:
    assert set(SERVICES["worker"]["environment"]) <= SETTINGS | OF_THE_WORKER


def test_the_example_is_accepted_as_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".env").write_text((ROOT / ".env.example").read_text())
    settings = load_settings()
    assert settings.neo4j_password.get_secret_value() == "changeme"
    assert not settings.gigachat_client_id


def test_the_example_leaves_the_embedded_stack_alone() -> None:
    """`make demo` in the same folder reads the same .env: no address in it may lead into the compose network."""
    addresses = {n for n in EXAMPLE if n.endswith(("_URL", "_URI", "_SERVERS"))}
    assert {n: EXAMPLE[n] for n in addresses if EXAMPLE[n]} == {}


def test_no_token_filled_in_contradicts_the_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If only tokens are filled in, the container checks them."""
    monkeypatch.chdir(tmp_path)
    example = (ROOT / ".env.example").read_text()
    assert "VISION_API_TOKENS=\n" in example
    (tmp_path / ".env").write_text(example.replace("VISION_API_TOKENS=\n", "VISION_API_TOKENS=one=t1,two=*\n"))
    given = SERVICES["worker"]["environment"]
    by_compose = given["VISION_API_AUTH"].partition(":-")[2].rstrip("}")
    for auth in (EXAMPLE["VISION_API_AUTH"], by_compose):
        settings = load_settings(
            vision_api_auth=auth, vision_api_host=SERVICES["worker"]["environment"]["VISION_API_HOST"]
        )
        assert settings.vision_api_auth != "off"
        assert parse_tokens(settings.vision_api_tokens) == {"one": "t1", "two": "*"}
