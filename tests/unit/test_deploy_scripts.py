"""The scripts of the containers: deploy/start.sh, deploy/certificates.sh, Kafka's health check, the modes of files.

Kafka's check runs against a small server that answers like a broker; against real ones in `make image-check`.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.test_deploy_compose import CLUSTER, SERVICES
from vision_app.settings import Settings, load_settings

DEPLOY = Path(__file__).parents[2] / "deploy"
USERS = {"kafka": 1000, "kafka-2": 1000, "kafka-3": 1000, "redis": 999, "postgres": 70}
"""The users that the services' images run as."""


# --- start.sh: profiles


def start(home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(DEPLOY / "start.sh"), "sh", "-c", "echo $0 $1; exit 7", "one", "two words"]
    env = {"PATH": os.environ["PATH"], "VISION_HOME": str(home), **environment}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False)


PROFILES = {
    "": False,
    "obs": False,
    "demo": True,
    "demo,obs": True,
    "obs,demo": True,
    "obs, demo ,x": True,
    "demonstration": False,
    "nodemo": False,
    "obs,demo2": False,
    "demo-not": False,
    "x*": False,
    "*": True,
}


@pytest.mark.parametrize(("profiles", "simulated"), PROFILES.items())
def test_gigachat_is_simulated_if_demo_is_one_of_the_profiles(
    profiles: str, simulated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = start(tmp_path, COMPOSE_PROFILES=profiles)
    assert (started.returncode, started.stdout, started.stderr) == (7, "one two words\n", "")
    settings = settings_in(tmp_path, monkeypatch)
    assert settings.gigachat_simulated is simulated
    assert (settings.gigachat_base_url == "http://gigachat:8085/api/v1") is simulated
    assert (settings.gigachat_client_id == "demo") is simulated
    assert settings.gigachat_base_url.startswith("https://") is not simulated


def settings_in(home: Path, monkeypatch: pytest.MonkeyPatch, **environment: str) -> Settings:
    """What every program of the container sees, also one that start.sh did not start."""
    monkeypatch.chdir(home)
    monkeypatch.setenv("VISION_HOME", str(home))
    for name in [name for name in os.environ if name.startswith("GIGACHAT_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load_settings()


def test_without_the_profile_nothing_of_an_earlier_demo_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(tmp_path, COMPOSE_PROFILES="demo")
    start(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert settings_in(tmp_path, monkeypatch).gigachat_simulated is False


def test_the_environment_has_precedence_unless_it_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(tmp_path, COMPOSE_PROFILES="demo,obs")
    own = "http://gateway:1/api"
    settings = settings_in(tmp_path, monkeypatch, GIGACHAT_BASE_URL=own, GIGACHAT_CLIENT_ID="")
    assert (settings.gigachat_base_url, settings.gigachat_client_id) == (own, "demo")


# --- permissions


def test_a_clone_with_umask_077_becomes_readable_for_everybody(tmp_path: Path) -> None:
    service, folder = SERVICES["permissions"], tmp_path / "mounted" / "config"
    (folder / "deeper").mkdir(parents=True)
    (folder / "deeper" / "policy.yml").write_text("a: 1\n")
    (folder / "script.sh").write_text("exit\n")
    for path, mode in ((folder / "deeper" / "policy.yml", 0o600), (folder / "script.sh", 0o700)):
        path.chmod(mode)
    for each in (folder / "deeper", folder):
        each.chmod(0o700)
    (told,) = service["command"]
    assert all(mount.split(":")[1].startswith(f"{told}/") for mount in service["volumes"])
    subprocess.run([*service["entrypoint"], str(folder)], check=True)
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (folder, *folder.rglob("*"))}
    assert modes == {"config": "0o755", "deeper": "0o755", "policy.yml": "0o644", "script.sh": "0o755"}


# --- certificates.sh


def certificates(folder: Path) -> str:
    command = ["sh", str(DEPLOY / "certificates.sh"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def openssl(*arguments: str | Path) -> str:
    told = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=30, check=False)
    assert told.returncode == 0, told.stderr
    return told.stdout


def test_each_service_gets_a_certificate_for_its_name_and_a_key_for_its_user(tmp_path: Path) -> None:
    assert certificates(tmp_path).count("made a certificate") == len(USERS)
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == set(USERS)
    assert (tmp_path / "ca-key.pem").stat().st_mode & 0o077 == 0
    assert (tmp_path / "ca.pem").stat().st_mode & 0o444 == 0o444
    for name, user in USERS.items():
        own = tmp_path / name
        openssl("verify", "-CAfile", tmp_path / "ca.pem", "-verify_hostname", name, own / "certificate.pem")
        usage = openssl("x509", "-in", own / "certificate.pem", "-noout", "-ext", "extendedKeyUsage")
        assert ("Client Authentication" in usage) is name.startswith("kafka"), "only brokers may act as brokers"
        for key in ("key.pem", "both.pem"):
            status = (own / key).stat()
            assert status.st_mode & 0o777 == 0o400
            assert status.st_uid == (user if os.getuid() == 0 else os.getuid())
        assert (own / "certificate.pem").stat().st_mode & 0o444 == 0o444


def test_run_again_it_changes_nothing_and_makes_only_what_is_missing(tmp_path: Path) -> None:
    certificates(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.pem")}
    assert certificates(tmp_path) == ""
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.pem")} == before
    (tmp_path / "redis" / "certificate.pem").unlink()  # as after an interrupted run
    assert certificates(tmp_path) == "made a certificate for redis\n"
    after = {path: path.read_bytes() for path in tmp_path.rglob("*.pem")}
    assert {path.parent.name for path in before if before[path] != after[path]} == {"redis"}


def test_an_authority_of_ones_own_is_never_replaced(tmp_path: Path) -> None:
    certificates(tmp_path)
    (tmp_path / "ca-key.pem").unlink()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.pem")}
    assert certificates(tmp_path) == ""
    (tmp_path / "redis" / "certificate.pem").unlink()
    command = ["sh", str(DEPLOY / "certificates.sh"), str(tmp_path)]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 1
    assert "redis/certificate.pem is missing" in refused.stderr
    assert "put a new one there" in refused.stderr
    after = {path: path.read_bytes() for path in tmp_path.rglob("*.pem")}
    assert before.items() - after.items() == {
        (p, c) for p, c in before.items() if p.parts[-2:] == ("redis", "certificate.pem")
    }


def test_what_the_cluster_mounts_is_what_the_script_makes(tmp_path: Path) -> None:
    certificates(tmp_path)
    text = " ".join(str(service) for service in CLUSTER["services"].values())
    named = {word.strip("'\",;)}]") for word in text.replace("=", " ").split() if "/certificates/" in word}
    named = {"/certificates/" + name.partition("/certificates/")[2].split("\\n")[0].split("'")[0] for name in named}
    files = {name for name in named if name.endswith((".pem", ".conf"))}
    assert len(files) >= 8
    missing = {name for name in files if not (tmp_path / name.removeprefix("/certificates/")).exists()}
    assert missing == set()


# --- Kafka's health check


def text_field(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


def metadata(correlation: int, *brokers: tuple[int, str]) -> bytes:
    """Metadata response, version 1: brokers (id, host, port, no rack), the controller's id, no topics."""
    body = struct.pack(">ii", correlation, len(brokers))
    for number, host in brokers:
        body += struct.pack(">i", number) + text_field(host) + struct.pack(">ih", 9092, -1)
    body += struct.pack(">ii", 1, 0)
    return struct.pack(">i", len(body)) + body


@contextmanager
def broker(answer: bytes | None) -> Iterator[tuple[int, list[bytes]]]:
    """A server that answers the first request with `answer`, or never."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                received.append(connection.recv(1000))
                if answer is not None:
                    connection.sendall(answer)
                connection.settimeout(10)
                while connection.recv(1000):
                    pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], received
        thread.join(10)


def health(port: int, number: int = 2) -> bool:
    kind, *command = SERVICES["kafka"]["healthcheck"]["test"]
    assert kind == "CMD"
    command = [part.replace("$$", "$") for part in command]
    env = {"PATH": os.environ["PATH"], "HEALTH_LISTENER": f"127.0.0.1:{port}", "KAFKA_NODE_ID": str(number)}
    return subprocess.run(command, env=env, capture_output=True, timeout=30, check=False).returncode == 0


HOST = "127.0.0.1"


def test_a_broker_that_lists_itself_is_healthy_and_is_asked_for_no_topics() -> None:
    with broker(metadata(1, (1, HOST), (2, HOST), (3, "elsewhere"))) as (port, received):
        assert health(port)
    (request,) = received
    size, key, version, correlation, client, topics = struct.unpack(">ihhihi", request)
    assert (size, key, version, correlation, client, topics) == (len(request) - 4, 3, 1, 1, -1, 0)


ANSWERS = {
    "it is fenced, so that it is not in its own list": metadata(1, (1, HOST), (3, HOST)),
    "no broker is alive": metadata(1),
    "its number under another address": metadata(1, (2, "elsewhere")),
    "an answer to another request": metadata(7, (2, HOST)),
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "cut off": metadata(1, (2, HOST))[:10],
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_anything_else_is_not_healthy(answer: bytes) -> None:
    with broker(answer) as (port, _):
        assert not health(port)


def test_a_broker_that_accepts_and_does_not_answer_is_not_healthy_in_time() -> None:
    limit = int(SERVICES["kafka"]["healthcheck"]["timeout"].removesuffix("s"))
    started = time.monotonic()
    with broker(None) as (port, _):
        assert not health(port)
    assert time.monotonic() - started < limit


def test_a_closed_port_is_not_healthy() -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
    assert not health(port)


def test_every_broker_names_the_listener_that_its_check_asks() -> None:
    for services in (SERVICES, CLUSTER["services"]):
        for name in ("kafka", "kafka-2", "kafka-3"):
            given = services.get(name, {}).get("environment")
            if given:
                assert f"://{given['HEALTH_LISTENER']}" in given["KAFKA_ADVERTISED_LISTENERS"]
