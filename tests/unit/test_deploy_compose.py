"""docker-compose.yml and docker-compose.cluster.yml against our rules.

That the compose tool accepts them, and that the services run with what they say, is checked by `make image-check`; the
scripts in them are tried in test_deploy_scripts.py.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values

from vision_app.settings import Settings, every_variable, load_settings, parse_tokens

ROOT = Path(__file__).parents[2]


class ComposeLoader(yaml.SafeLoader):
    """Reads compose's tag `!override`, too: what stands behind it replaces what docker-compose.yml has."""


def _tagged(loader: ComposeLoader, _: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    raise TypeError(node.tag)


ComposeLoader.add_multi_constructor("!", _tagged)


def compose(text: str) -> dict[str, Any]:
    """A compose file's content."""
    return dict(yaml.load(text, ComposeLoader))  # noqa: S506 - a SafeLoader with one tag more


TEXT = (ROOT / "docker-compose.yml").read_text()
CLUSTER_TEXT = (ROOT / "docker-compose.cluster.yml").read_text()
COMPOSE, CLUSTER = compose(TEXT), compose(CLUSTER_TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
EXAMPLE = dotenv_values(ROOT / ".env.example")

SETTINGS = set(every_variable())
OF_COMPOSE = {
    *("COMPOSE_PROFILES", "VISION_LOCK"),
    *("POSTGRES_PASSWORD", "CLUSTER_KAFKA_PASSWORD", "CLUSTER_REDIS_PASSWORD"),
}
"""Variables of .env that are not our settings: compose's own, the image's, and passwords in other settings."""
OF_THE_WORKER = {"VISION_HOME", "VISION_WORKER_ID", "COMPOSE_PROFILES"}
"""Read from the environment by the worker, or by deploy/start.sh, without being settings."""
DEMO_SECRETS = {
    "POSTGRES_PASSWORD": "changeme",
    "NEO4J_PASSWORD": "changeme",
    "S3_ACCESS_KEY_ID": "vision-demo",
    "S3_SECRET_ACCESS_KEY": "changeme-changeme",
    "CLUSTER_KAFKA_PASSWORD": "changeme",
    "CLUSTER_REDIS_PASSWORD": "changeme",
}
OWN_IMAGE = {"worker", "gigachat", "permissions"}
MONITORS = {"prometheus", "grafana", "redis-exporter", "kafka-exporter", "postgres-exporter"}
ONE_SHOT = {"permissions"}
"""Runs to its end before the others start."""
READS_FILES_OF_OTHERS = {"permissions": ["DAC_READ_SEARCH", "FOWNER"]}
WRITES_ITS_OWN_FOLDERS = {"kafka", "neo4j"}
"""Their start scripts write configuration beside the programs, so their roots stay writable."""
STARTS_AS_ROOT = {"postgres", "neo4j"}
"""Their start scripts give the data to their own user and then run as that user."""

every_service = pytest.mark.parametrize("name", SERVICES)


def interpolated(text: str) -> set[str]:
    return set(re.findall(r"(?<!\$)\$\{([A-Z0-9_]+)", text))


def test_the_services_of_the_guide_under_its_names() -> None:
    assert set(SERVICES) - MONITORS - ONE_SHOT == {"worker", "redis", "kafka", "postgres", "neo4j", "s3", "gigachat"}
    assert {name: service["container_name"] for name, service in SERVICES.items()} == {name: name for name in SERVICES}


def test_simulator_and_monitors_are_optional_and_nothing_else() -> None:
    assert {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service} == {
        "gigachat": ["demo"]
    } | {name: ["obs"] for name in MONITORS}


def test_no_profile_but_demo_changes_the_worker() -> None:
    """Compose can only ask whether COMPOSE_PROFILES is empty, so it must not ask: deploy/start.sh looks for demo."""
    assert set(re.findall(r"\$\{COMPOSE_PROFILES[^}]*\}", TEXT + CLUSTER_TEXT)) == {"${COMPOSE_PROFILES:-}"}
    assert SERVICES["worker"]["environment"]["COMPOSE_PROFILES"] == "${COMPOSE_PROFILES:-}"
    for name, value in SERVICES["worker"]["environment"].items():
        if name.startswith("GIGACHAT_"):
            assert value == f"${{{name}:-}}"


def test_what_is_published_is_published_on_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {
        "worker": ["127.0.0.1:8000:8000", "127.0.0.1:8001:8001"],
        "prometheus": ["127.0.0.1:9090:9090"],
        "grafana": ["127.0.0.1:3000:3000"],
    }
    assert not [name for name, service in CLUSTER["services"].items() if "ports" in service]
    assert {s["network_mode"] for s in SERVICES.values() if "network_mode" in s} == {"none"}


@every_service
def test_images_are_pinned(name: str) -> None:
    image = SERVICES[name]["image"]
    assert re.fullmatch(r"[a-z0-9/_-]+:v?\d+\.\d+\.?\d*(-[a-z]+)?(@sha256:[0-9a-f]{64})?", image), image
    if name in OWN_IMAGE:
        assert SERVICES[name]["pull_policy"] == "build"


@pytest.mark.parametrize("name", sorted(set(SERVICES) - ONE_SHOT))
def test_health_is_checked(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in ("CMD", "CMD-SHELL")
    assert {"interval", "timeout", "retries", "start_period"} <= set(check)


def test_the_worker_starts_when_its_services_are_healthy() -> None:
    awaited = SERVICES["worker"]["depends_on"]
    assert set(awaited) == set(SERVICES) - {"worker"} - MONITORS
    for name, wait in awaited.items():
        wanted = "service_completed_successfully" if name in ONE_SHOT else "service_healthy"
        assert wait["condition"] == wanted, name
    assert [name for name, wait in awaited.items() if wait.get("required") is False] == ["gigachat"]


@every_service
def test_containers_are_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "pids_limit", "restart", "logging"} <= set(service)
    assert "privileged" not in service
    assert service.get("cap_add", []) == READS_FILES_OF_OTHERS.get(name, [])
    assert service.get("read_only", False) is (name not in WRITES_ITS_OWN_FOLDERS)
    assert (service.get("cap_drop") == ["ALL"]) is (name not in STARTS_AS_ROOT)
    assert "/var/run/docker.sock" not in str(service.get("volumes"))


def test_only_the_worker_reaches_the_outside() -> None:
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    outside = [name for name, service in SERVICES.items() if service.get("networks", ["inside"]) != ["inside"]]
    assert outside == ["worker", "prometheus", "grafana"], "the last two only because their ports are published"


def test_data_is_kept_in_named_volumes() -> None:
    mounts = [mount.split(":") for service in SERVICES.values() for mount in service.get("volumes", ())]
    named = {source for source, *_ in mounts if not source.startswith(".")}
    assert named == set(COMPOSE["volumes"])
    without = {name for name, service in SERVICES.items() if not service.get("volumes")}
    assert without == {"gigachat", "redis-exporter", "kafka-exporter", "postgres-exporter"}


def test_what_is_mounted_from_this_folder_is_made_readable_first() -> None:
    """A clone made with umask 077 has files that no container's user may read."""
    mounts = {
        name: [mount.split(":") for mount in service.get("volumes", ()) if mount.startswith(".")]
        for name, service in SERVICES.items()
    }
    made_readable = {source for source, *_ in mounts.pop("permissions")}
    for name, sources in mounts.items():
        for source, _, *mode in sources:
            assert source in made_readable, f"{name} mounts {source}"
            assert mode == ["ro"], f"{name} mounts {source}"
            awaited = SERVICES[name]["depends_on"]["permissions"]
            assert awaited == {"condition": "service_completed_successfully"}
    assert made_readable == {source for sources in mounts.values() for source, *_ in sources}
    assert not any("configs" in s or "secrets" in s for s in (*SERVICES.values(), *CLUSTER["services"].values()))
    overridden = [m for s in CLUSTER["services"].values() for m in s.get("volumes", ()) if m.startswith(".")]
    assert overridden == []


def test_redis_persists_and_never_evicts() -> None:
    command = " ".join(SERVICES["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_the_worker_has_time_to_end_its_calls() -> None:
    grace = int(SERVICES["worker"]["stop_grace_period"].removesuffix("s"))
    assert grace > Settings.model_fields["vision_handler_deadline_seconds"].default + 15


def test_secrets_stand_in_no_committed_file_but_as_demo_values() -> None:
    secret = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY|CREDENTIALS|AUTH_KEY|_AUTH$|DATABASE_URL")
    for name, service in (*SERVICES.items(), *CLUSTER["services"].items()):
        for variable, value in service.get("environment", {}).items():
            if secret.search(variable) and not variable.endswith(("_AUTH", "_CLIENT_AUTH", "_ENABLED")):
                assert "${" in str(value), f"{name}: {variable} is a literal"
    given = {n: v for n, v in EXAMPLE.items() if v and secret.search(n) and n in DEMO_SECRETS | dict.fromkeys(SETTINGS)}
    assert {n: v for n, v in given.items() if n not in {"VISION_MAX_DAILY_TOKENS", "VISION_API_AUTH"}} == DEMO_SECRETS


def test_every_variable_used_is_explained_in_the_example() -> None:
    assert interpolated(TEXT + CLUSTER_TEXT) <= set(EXAMPLE)


def test_every_variable_of_the_example_means_something() -> None:
    assert set(EXAMPLE) <= SETTINGS | OF_COMPOSE


def test_the_worker_is_given_known_settings_only() -> None:
    assert set(SERVICES["worker"]["environment"]) <= SETTINGS | OF_THE_WORKER
    assert set(CLUSTER["services"]["worker"]["environment"]) <= SETTINGS


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


def test_the_cluster_loses_nothing_when_one_broker_is_away() -> None:
    brokers = {name: dict(CLUSTER["services"][name]["environment"]) for name in ("kafka", "kafka-2", "kafka-3")}
    voters = brokers["kafka"]["KAFKA_CONTROLLER_QUORUM_VOTERS"]
    assert voters == "1@kafka:9093,2@kafka-2:9093,3@kafka-3:9093"
    for number, (name, given) in enumerate(brokers.items(), start=1):
        assert given.get("KAFKA_NODE_ID", SERVICES["kafka"]["environment"]["KAFKA_NODE_ID"]) == number
        assert given["KAFKA_ADVERTISED_LISTENERS"].startswith(f"CLIENTS://{name}:9092,")
        assert given["KAFKA_SSL_KEYSTORE_LOCATION"] == f"/certificates/{name}/both.pem"
        assert (given["KAFKA_DEFAULT_REPLICATION_FACTOR"], given["KAFKA_MIN_INSYNC_REPLICAS"]) == (3, 2)
        for own in ("OFFSETS_TOPIC", "TRANSACTION_STATE_LOG", "SHARE_COORDINATOR_STATE_TOPIC"):
            assert given[f"KAFKA_{own}_REPLICATION_FACTOR"] == 3
    shared = [{n: v for n, v in given.items() if n not in OF_ONE_BROKER} for given in brokers.values()]
    assert shared[0] == shared[1] == shared[2]
    worker = CLUSTER["services"]["worker"]["environment"]
    assert (worker["KAFKA_TOPIC_REPLICATION_FACTOR"], worker["KAFKA_MIN_INSYNC_REPLICAS"]) == (3, 2)


OF_ONE_BROKER = {"KAFKA_NODE_ID", "KAFKA_ADVERTISED_LISTENERS", "KAFKA_SSL_KEYSTORE_LOCATION"}


def test_the_cluster_speaks_tls_to_everything_that_is_reached_from_elsewhere() -> None:
    kafka = CLUSTER["services"]["kafka"]["environment"]
    listeners = dict(one.split("://") for one in kafka["KAFKA_LISTENERS"].split(","))
    protocols = dict(one.split(":") for one in kafka["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(","))
    assert protocols == {"CLIENTS": "SASL_SSL", "CONTROLLER": "SSL", "BROKERS": "SSL", "HEALTH": "PLAINTEXT"}
    assert listeners["HEALTH"].startswith("127.0.0.1:")
    for name in ("BROKERS", "CONTROLLER"):
        assert kafka[f"KAFKA_LISTENER_NAME_{name}_SSL_CLIENT_AUTH"] == "required"
    redis = CLUSTER["services"]["redis"]["command"]
    assert redis[redis.index("--port") + 1] == "0"
    worker = CLUSTER["services"]["worker"]["environment"]
    assert worker["REDIS_URL"].startswith("rediss://")
    assert "sslmode=verify-full&sslrootcert=/certificates/" in worker["DATABASE_URL"]
    assert worker["KAFKA_SECURITY_PROTOCOL"] == "SASL_SSL"


def test_the_cluster_keeps_what_redis_of_the_one_machine_keeps() -> None:
    """A command in the second file replaces the whole command of the first."""
    alone, cluster = " ".join(SERVICES["redis"]["command"]), " ".join(CLUSTER["services"]["redis"]["command"])
    assert cluster.endswith(alone.removeprefix("redis-server "))
    before = SERVICES["kafka-exporter"]["command"]
    assert set(before) <= set(CLUSTER["services"]["kafka-exporter"]["command"])
