"""What is embedded and what is external, according to the settings and where they were given."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from vision_app.settings import Source, load_settings, sources
from vision_app.stack.errors import StackError
from vision_app.stack.home import Home
from vision_app.stack.instance import Instance
from vision_app.stack.plan import INFRASTRUCTURE, Planner, StackOptions, StackPlan, without_password
from vision_app.stack.supervisor import remember_env

COPIES = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
}


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


def test_three_brokers_store_everything_three_times() -> None:
    planned = plan(StackOptions(services=("kafka",), brokers=3))
    assert [service.name for service in planned.services] == ["kafka-1", "kafka-2", "kafka-3"]
    variables = planned.variables()
    servers = [service.url for service in planned.services]
    assert variables["KAFKA_BOOTSTRAP_SERVERS"] == ",".join(servers)
    assert (variables["KAFKA_TOPIC_REPLICATION_FACTOR"], variables["KAFKA_MIN_INSYNC_REPLICAS"]) == ("3", "2")
    assert variables["KAFKA_SESSION_TIMEOUT_SECONDS"] == "20"
    written = [configuration(service) for service in planned.services]
    assert [lines["node.id"] for lines in written] == ["1", "2", "3"]
    (voters,) = {lines["controller.quorum.voters"] for lines in written}
    for number, lines in enumerate(written, 1):
        controller = next(part for part in lines["listeners"].split(",") if part.startswith("CONTROLLER"))
        assert f"{number}@{controller.partition('//')[2]}" in voters.split(",")
        assert lines["advertised.listeners"] == lines["listeners"]
        assert {name: lines[name] for name in COPIES} == COPIES


def test_brokers_reach_each_other_at_proxies_only_if_the_laboratory_wants_it() -> None:
    planned = plan(StackOptions(services=("kafka",), brokers=3, broker_proxies=True))
    for service in planned.services:
        lines = configuration(service)
        listeners, advertised = lines["listeners"].split(","), lines["advertised.listeners"].split(",")
        assert [a == b for a, b in zip(listeners, advertised, strict=True)] == [True, False, False]
        own = next(listener.partition("//")[2] for listener in listeners if listener.startswith("CONTROLLER"))
        assert own not in lines["controller.quorum.voters"]


def test_brokers_keep_their_ports_and_the_id_of_their_cluster() -> None:
    home = Home(Path(".vision").absolute())
    home.root.mkdir()
    written = []
    for _ in range(2):
        instance = Instance.load(home)
        planned = Planner(home, instance, load_settings(), sources()).plan(StackOptions(("kafka",), brokers=3))
        instance.save(home)
        written.append([(configuration(service), service.cluster_id) for service in planned.services])  # type: ignore[attr-defined]  # of Kafka
    assert written[0] == written[1]
    assert len({cluster for _, cluster in written[0]}) == 1


@pytest.mark.parametrize(("stored", "wished"), [(1, 3), (3, 1)])
def test_data_of_another_number_of_brokers_is_not_touched(stored: int, wished: int) -> None:
    for name in ["kafka"] if stored == 1 else ["kafka-1", "kafka-2", "kafka-3"]:
        properties = Path(".vision").absolute() / "data" / name / "log" / "meta.properties"
        properties.parent.mkdir(parents=True)
        properties.touch()
    with pytest.raises(StackError, match=rf"of {stored} Kafka broker.*not of {wished}.*--brokers {stored}.*rm -r"):
        plan(StackOptions(services=("kafka",), brokers=wished))
    assert len(plan(StackOptions(services=("kafka",))).services) == stored, "without a wish: as many as there were"


async def test_a_broker_waits_for_the_others_only_at_first() -> None:
    said = b"\0\0\0\0\0\0\0\7"
    joined = [2]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(4)
        writer.write(said + joined[0].to_bytes(4, "big"))
        writer.close()

    broker = plan(StackOptions(services=("kafka",), brokers=3)).services[0]
    assert broker.port is not None
    server = await asyncio.start_server(answer, "127.0.0.1", broker.port)
    assert await broker.waiting_for() == "the brokers to join their cluster: 2 of 3 have"
    joined[0] = 3
    assert await broker.waiting_for() is None
    joined[0] = 2
    assert await broker.waiting_for() is None
    server.close()
    await server.wait_closed()
    assert await broker.waiting_for() == "the brokers to join their cluster: 0 of 3 have"


def configuration(service: Any) -> dict[str, str]:
    return dict(line.split("=", 1) for line in service._configuration().splitlines())


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
