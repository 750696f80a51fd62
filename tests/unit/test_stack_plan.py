"""What is embedded and what is external, according to the settings and where they were given."""

from __future__ import annotations

from pathlib import Path

import pytest

from vision_app.settings import Source, load_settings, sources
from vision_app.stack.home import Home
from vision_app.stack.instance import Instance
from vision_app.stack.plan import INFRASTRUCTURE, Planner, StackOptions, StackPlan, without_password
from vision_app.stack.supervisor import remember_env


@pytest.fixture(autouse=True)
def _clean_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VISION_HOME", str(tmp_path / ".vision"))


def plan(wish: StackOptions | None = None) -> StackPlan:
    home = Home(Path(".vision").absolute())
    return Planner(home, Instance.load(home), load_settings(), sources()).plan(wish or StackOptions())


def names(planned: StackPlan) -> set[str]:
    return {service.name for service in planned.services}


def test_everything_is_embedded_by_default() -> None:
    planned = plan()
    assert names(planned) == set(INFRASTRUCTURE)
    assert planned.external == {}
    assert planned.gigachat == "simulated"
    assert [worker.name for worker in planned.workers] == ["worker-1"]


@pytest.mark.parametrize(
    ("variable", "value", "name"),
    [
        ("REDIS_URL", "redis://:secret@cache.example:6379/0", "redis"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka.example:9092", "kafka"),
        ("DATABASE_URL", "postgresql://me:secret@db.example/vision", "postgres"),
        ("S3_ENDPOINT_URL", "https://s3.example", "s3"),
        ("NEO4J_URI", "bolt://graph.example:7687", "neo4j"),
    ],
)
@pytest.mark.parametrize("where", ["environment", ".env"])
def test_a_service_whose_url_is_given_is_external(
    variable: str, value: str, name: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "environment":
        monkeypatch.setenv(variable, value)
    else:
        Path(".env").write_text(f"{variable}={value}\n")
    planned = plan()
    assert names(planned) == set(INFRASTRUCTURE) - {name}
    assert set(planned.external) == {name}
    assert "secret" not in planned.external[name]
    assert variable not in planned.variables()


def test_what_an_earlier_start_wrote_does_not_make_a_service_external() -> None:
    lines = [f"{name}={value}" for name, value in plan().variables().items()]
    Path(".vision").mkdir(exist_ok=True)
    Path(".vision/env").write_text("\n".join(lines))
    assert set(sources().values()) == {Source.STACK, Source.DEFAULT}
    again = plan()
    assert names(again) == set(INFRASTRUCTURE)
    assert again.gigachat == "simulated"


@pytest.mark.parametrize("where", ["environment", ".env"])
def test_the_stacks_own_values_in_the_environment_do_not_make_its_services_external(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`set -a; . .vision/env`, then a start with other ports, then a third one in the same shell."""
    first = plan()
    remember_env(first)
    stale = first.variables()
    Path(".vision/instance.json").unlink(missing_ok=True)
    second = plan()  # with other ports
    remember_env(second)
    Path(".vision/env").write_text("\n".join(f"{name}={value}" for name, value in second.variables().items()))
    assert stale["REDIS_URL"] != second.variables()["REDIS_URL"]
    if where == ".env":
        Path(".env").write_text("\n".join(f"{name}={value}" for name, value in stale.items()))
    else:
        for name, value in stale.items():
            monkeypatch.setenv(name, value)
    assert set(sources().values()) == {Source.STACK, Source.DEFAULT}
    assert load_settings().redis_url.get_secret_value() == second.variables()["REDIS_URL"]
    third = plan()
    assert (names(third), third.external, third.gigachat) == (set(INFRASTRUCTURE), {}, "simulated")


def test_a_value_like_our_own_is_given_if_the_address_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = plan()
    remember_env(mine)
    monkeypatch.setenv("NEO4J_URI", "bolt://graph.example:7687")
    monkeypatch.setenv("NEO4J_PASSWORD", mine.variables()["NEO4J_PASSWORD"])
    monkeypatch.setenv("REDIS_URL", mine.variables()["REDIS_URL"])
    assert (sources()["neo4j_password"], sources()["redis_url"]) == (Source.ENVIRONMENT, Source.DEFAULT)
    assert set(plan().external) == {"neo4j"}


@pytest.mark.parametrize("variable", ["GIGACHAT_CREDENTIALS", "GIGACHAT_CLIENT_ID"])
def test_with_credentials_the_real_service_is_used(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "c29tZTpib2R5")
    planned = plan()
    assert "simulator" not in names(planned)
    assert planned.gigachat == planned.external["gigachat"] == "https://gigachat.devices.sberbank.ru/api/v1"
    assert not [name for name in planned.variables() if name.startswith("GIGACHAT")]


def test_neo4j_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATURE_NEO4J_ENABLED", "false")
    assert names(plan()) == set(INFRASTRUCTURE) - {"neo4j"}


def test_keys_given_are_the_keys_of_the_embedded_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_ACCESS_KEY_ID", "mine")
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", "my-secret")
    variables = plan().variables()
    assert (variables["S3_ACCESS_KEY_ID"], variables["S3_SECRET_ACCESS_KEY"]) == ("mine", "my-secret")


def test_only_the_first_worker_takes_the_configured_ports() -> None:
    first, second, third = plan(StackOptions(services=(), workers=3)).workers
    assert first.port == 8000
    assert first.environment()["METRICS_PORT"] == "8001"
    ports = [worker.environment()[name] for worker in (second, third) for name in ("VISION_API_PORT", "METRICS_PORT")]
    assert len({"8000", "8001", *ports}) == 6


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:pa@ss@host:6379/0", "redis://:********@host:6379/0"),
        ("postgresql://me:pw@host:5432/db", "postgresql://me:********@host:5432/db"),
        ("127.0.0.1:9092", "127.0.0.1:9092"),
    ],
)
def test_passwords_in_urls_are_hidden(url: str, shown: str) -> None:
    assert without_password(url) == shown
