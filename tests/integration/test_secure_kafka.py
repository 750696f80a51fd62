"""Kafka with TLS, users and rights: everything of ours that connects, and what each wrong value says."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.pipeline import Worker, free_port, picture, pipeline, unique
from tests.kafka_broker import (
    CREATE,
    GROUP,
    LITERAL,
    ODD,
    ODD_PASSWORD,
    PASSWORDS,
    READ,
    SESSION_SECONDS,
    TOPIC,
    WRITE,
    Broker,
    Grant,
    grant,
    pkcs8,
    secured_broker,
    withdraw,
)
from tests.tls_files import make_certificates
from vision_app.clients.kafka import kafka_admin
from vision_app.clients.kafka_faults import KafkaUnusable
from vision_app.kafka_topics import create_topics, wanted_topics
from vision_app.operations.kafka_log import kafka_log, kafka_sender, parse_id
from vision_app.settings import Settings, load_settings
from vision_app.stack.reachable import Unreachable
from vision_app.stack.reachable import kafka as probe

SECONDS = 5.0
KEY_PASSWORD = "of-the-key"
DLQ = "vision.dlq"
Given = dict[str, str]
"""Variables and their values."""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The broker. `vision` and `moody` have the rights of docs/connecting.md, `maker` also CREATE."""
    folder = tmp_path_factory.mktemp("kafka")
    with secured_broker(folder, make_certificates(folder)) as broker:
        of_two = [*least_rights("vision"), *least_rights("moody")]
        asyncio.run(grant(broker, [*of_two, *least_rights("maker", create=True)]))
        yield broker


@pytest.fixture(scope="module")
def topics(broker: Broker) -> list[str]:
    """Our topics, made by a user who may make them."""
    return asyncio.run(create_topics(of(sasl(broker, "sasl_tls", user="maker"))))


def least_rights(user: str, app_id: str = "vision", create: bool = False) -> list[Grant]:
    operations = (READ, WRITE, CREATE) if create else (READ, WRITE)
    names = wanted_topics(load_settings(kafka_app_id=app_id))
    on_topics = [(user, TOPIC, name, LITERAL, operation) for name in names for operation in operations]
    return [*on_topics, (user, GROUP, app_id, LITERAL, READ)]


def sasl(broker: Broker, listener: str, mechanism: str = "SCRAM-SHA-512", user: str = "vision") -> Given:
    given = {
        "KAFKA_BOOTSTRAP_SERVERS": broker.server(listener),
        "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT" if listener == "sasl_plain" else "SASL_SSL",
        "KAFKA_SASL_MECHANISM": mechanism,
        "KAFKA_SASL_USERNAME": user,
        "KAFKA_SASL_PASSWORD": {**PASSWORDS, ODD: ODD_PASSWORD}[user],
    }
    return given if listener == "sasl_plain" else given | {"KAFKA_CA_FILE": str(broker.certificates.ca)}


def tls(broker: Broker, listener: str = "tls") -> Given:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": broker.server(listener),
        "KAFKA_SECURITY_PROTOCOL": "SSL",
        "KAFKA_CA_FILE": str(broker.certificates.ca),
    }


def mtls(broker: Broker, encrypted: bool = False) -> Given:
    """With the certificate of `vision`. Kafka's own tools read its key."""
    chain, key = broker.certificates.client
    ours = broker.folder / f"client{'-encrypted' if encrypted else ''}.pkcs8"
    ours.write_bytes(pkcs8(key, KEY_PASSWORD if encrypted else ""))
    given = tls(broker, "mtls") | {"KAFKA_CERT_FILE": str(chain), "KAFKA_KEY_FILE": str(ours)}
    return given | ({"KAFKA_KEY_PASSWORD": KEY_PASSWORD} if encrypted else {})


def of(given: Given) -> Settings:
    return load_settings(**{name.lower(): value for name, value in given.items()})


def way(broker: Broker, name: str) -> Given:
    """The variables for a way to the broker, by its name in WAYS."""
    listener, _, mechanism = name.partition(" ")
    if listener == "tls":
        return tls(broker)
    return mtls(broker, encrypted=mechanism == "encrypted") if listener == "mtls" else sasl(broker, listener, mechanism)


MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
WAYS = ("tls", "mtls", "mtls encrypted", *(f"{at} {how}" for at in ("sasl_plain", "sasl_tls") for how in MECHANISMS))


@pytest.mark.parametrize("name", WAYS)
async def test_our_clients_connect_send_and_read(broker: Broker, topics: list[str], name: str) -> None:
    settings, content = of(way(broker, name)), unique("record").encode()
    async with kafka_admin(settings, SECONDS) as admin:
        assert set(topics) <= set(await admin.list_topics())
    async with kafka_sender(settings) as sender:
        place = await sender.send(DLQ, b"key", content, {})
    async with kafka_log(settings) as log:
        record = await log.one(*parse_id(place))
    assert record is not None
    assert record.value == content


async def test_a_password_may_have_any_characters(broker: Broker) -> None:
    async with kafka_admin(of(sasl(broker, "sasl_tls", "PLAIN", ODD)), SECONDS) as admin:
        assert await admin.list_topics() == []


# --- wrong values -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wrong:
    """Variables that differ from those of a way that works, and what is said about them."""

    way: str
    says: str
    listener: str = ""
    change: Mapping[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()

    def given(self, broker: Broker) -> Given:
        made = broker.certificates
        names = {"OTHER_CA": made.other_ca, "STRANGER": made.stranger[0], "STRANGERS_KEY": made.stranger[1]}
        changed = {name: str(names.get(value, value)) for name, value in self.change.items()}
        if self.listener:
            port = free_port() if self.listener == "nobody" else broker.ports[self.listener]
            changed["KAFKA_BOOTSTRAP_SERVERS"] = f"localhost:{port}"
        given = way(broker, self.way) | changed
        return {name: value for name, value in given.items() if name not in self.without}


REFUSED = "user {} is refused with {}; check KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD and that the user was made for"
AUTHORITY = "the server's certificate is signed by an authority that is not trusted here"
OURS = "the server refuses our client certificate, or wants one; set KAFKA_CERT_FILE and KAFKA_KEY_FILE"
SCRAM = "sasl_tls SCRAM-SHA-512"
USER = ("KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD")
NO_TLS = {"KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"}
CA = ("KAFKA_CA_FILE",)

WRONG = {
    "another authority": Wrong("tls", AUTHORITY, change={"KAFKA_CA_FILE": "OTHER_CA"}),
    "no authority": Wrong(SCRAM, AUTHORITY, without=CA),
    "expired": Wrong("tls", "the server's certificate has expired; renew it on the server", "expired"),
    "another host name": Wrong("tls", "the server's certificate is for another host name", "other_name"),
    "no certificate of ours": Wrong("tls", OURS, "mtls"),
    "a stranger's certificate": Wrong(
        "mtls", OURS, change={"KAFKA_CERT_FILE": "STRANGER", "KAFKA_KEY_FILE": "STRANGERS_KEY"}
    ),
    **{
        f"wrong password, {how}": Wrong(
            f"sasl_tls {how}", REFUSED.format("vision", how), change={"KAFKA_SASL_PASSWORD": "wrong-password"}
        )
        for how in MECHANISMS
    },
    "unknown user": Wrong(SCRAM, REFUSED.format("nobody", "SCRAM-SHA-512"), change={"KAFKA_SASL_USERNAME": "nobody"}),
    "another mechanism": Wrong(
        "sasl_tls PLAIN",
        "the broker does not accept PLAIN here, only SCRAM-SHA-512; change KAFKA_SASL_MECHANISM",
        "scram_only",
    ),
    "TLS to a port without": Wrong(
        "tls",
        "the broker does not speak TLS on this port; check the port in KAFKA_BOOTSTRAP_SERVERS, or set "
        "KAFKA_SECURITY_PROTOCOL=PLAINTEXT",
        "plain",
    ),
    "SASL_SSL to a port without TLS": Wrong(SCRAM, "or set KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT", "sasl_plain"),
    "no TLS to a port with": Wrong(
        "tls",
        "the broker speaks TLS on this port; check the port in KAFKA_BOOTSTRAP_SERVERS, or set "
        "KAFKA_SECURITY_PROTOCOL=SSL",
        change=NO_TLS,
        without=CA,
    ),
    "no TLS to a port that wants certificates": Wrong(
        "tls", "the broker speaks TLS on this port", "mtls", change=NO_TLS, without=CA
    ),
    "SASL_PLAINTEXT to a port with TLS": Wrong(
        "sasl_plain PLAIN", "or set KAFKA_SECURITY_PROTOCOL=SASL_SSL", "sasl_tls"
    ),
    "a user where none is asked for": Wrong(
        "sasl_plain PLAIN", "the broker takes no user and password on this port; check the port", "plain"
    ),
    "no user where one is asked for": Wrong(
        "sasl_plain PLAIN",
        "the broker wants a user and a password on this port; set KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT",
        change=NO_TLS,
        without=USER,
    ),
    "only TLS where a user is asked for": Wrong("tls", "set KAFKA_SECURITY_PROTOCOL=SASL_SSL", "sasl_tls"),
    "an address astray": Wrong(SCRAM, "nothing listens at the address; check KAFKA_BOOTSTRAP_SERVERS", "astray"),
    "nothing listens": Wrong(SCRAM, "nothing listens at the address; check KAFKA_BOOTSTRAP_SERVERS", "nobody"),
    "an unknown host": Wrong(
        SCRAM, "the host name cannot be resolved", change={"KAFKA_BOOTSTRAP_SERVERS": "kafka.invalid:9092"}
    ),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_value_is_one_sentence_in_commands_and_doctor(broker: Broker, name: str) -> None:
    wrong = WRONG[name]
    settings = of(wrong.given(broker))
    with pytest.raises(KafkaUnusable) as fault:
        async with kafka_admin(settings, SECONDS) as admin:
            await admin.list_topics()
    sentence = str(fault.value)
    assert "Kafka: " in sentence
    assert wrong.says in sentence
    assert "\n" not in sentence
    secrets = [*PASSWORDS.values(), "wrong-password", KEY_PASSWORD]
    assert not [secret for secret in secrets if secret in sentence]
    with pytest.raises(Unreachable) as seen:
        await probe(settings)
    assert str(seen.value) == sentence


async def test_an_address_that_the_broker_tells_is_named(broker: Broker) -> None:
    with pytest.raises(KafkaUnusable, match=f"localhost:{broker.ports['nobody']} .advertised.listeners."):
        async with kafka_admin(of(WRONG["an address astray"].given(broker)), SECONDS) as admin:
            await admin.list_topics()


# --- rights -----------------------------------------------------------------------------------------------------------


async def test_who_may_make_topics_makes_them_and_others_use_them(broker: Broker, topics: list[str]) -> None:
    assert set(topics) == set(wanted_topics(load_settings()))
    assert await create_topics(of(sasl(broker, "sasl_tls"))) == []
    assert "all of ours among them" in await probe(of(sasl(broker, "sasl_tls")))


async def test_without_create_missing_topics_are_named(broker: Broker, topics: list[str]) -> None:
    rights = least_rights("vision", "another")
    settings = of(sasl(broker, "sasl_tls") | {"KAFKA_APP_ID": "another"})
    await grant(broker, rights)
    with pytest.raises(KafkaUnusable) as fault:
        await create_topics(settings)
    assert str(fault.value) == (
        "Kafka: the user vision lacks rights: CREATE on the missing topics another-budget-changelog, "
        "another-parked-changelog, another-posts-changelog; grant them as docs/connecting.md (Kafka) lists them"
    )


@pytest.mark.parametrize(
    ("taken", "says"),
    [
        ((TOPIC, "vision.posts", READ), "READ on topic vision.posts"),
        ((TOPIC, "vision.posts", WRITE), "WRITE on topic vision.posts"),
        ((TOPIC, DLQ, WRITE), "WRITE on topic vision.dlq"),
        ((TOPIC, "vision-budget-changelog", WRITE), "WRITE on topic vision-budget-changelog"),
        ((GROUP, "vision", READ), "READ on group vision"),
    ],
)
async def test_a_missing_right_is_named(
    broker: Broker, topics: list[str], taken: tuple[int, str, int], says: str
) -> None:
    kind, name, operation = taken
    right: list[Grant] = [("moody", kind, name, LITERAL, operation)]
    settings = of(sasl(broker, "sasl_tls", user="moody"))
    await withdraw(broker, right)
    try:
        with pytest.raises(KafkaUnusable) as fault:
            await create_topics(settings)
        with pytest.raises(Unreachable) as seen:
            await probe(settings)
    finally:
        await grant(broker, right)
    assert str(fault.value) == str(seen.value)
    assert str(seen.value).startswith(f"Kafka: the user moody lacks rights: {says}; grant them")
    assert await create_topics(settings) == []


async def test_a_user_without_any_right_is_told_all(broker: Broker, topics: list[str]) -> None:
    with pytest.raises(KafkaUnusable) as fault:
        await create_topics(of(sasl(broker, "sasl_tls", user="poor")))
    said = str(fault.value)
    assert "READ and WRITE on topic vision.posts" in said
    assert "WRITE on topic vision.dlq" in said
    assert "READ on group vision" in said


async def test_dead_letters_may_be_read_only_with_the_right_to(broker: Broker, topics: list[str]) -> None:
    right: list[Grant] = [("moody", TOPIC, DLQ, LITERAL, READ)]
    settings = of(sasl(broker, "sasl_tls", user="moody"))
    await withdraw(broker, right)
    try:
        assert await create_topics(settings) == [], "the worker does not need it"
        async with kafka_sender(settings) as sender:
            place = await sender.send(DLQ, b"key", b"{}", {})
        with pytest.raises(KafkaUnusable, match=f"the user moody lacks rights: topic {DLQ}"):
            async with kafka_log(settings) as log:
                await log.one(*parse_id(place))
    finally:
        await grant(broker, right)


# --- commands and workers ---------------------------------------------------------------------------------------------


def vision(given: Given, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from vision_app.cli import main; main()", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=90, env=os.environ | given)


@pytest.mark.parametrize("name", ["mtls encrypted", SCRAM, "odd"])
def test_kafkas_own_tools_connect_in_the_same_way(broker: Broker, topics: list[str], name: str) -> None:
    given = sasl(broker, "sasl_tls", "PLAIN", ODD) if name == "odd" else way(broker, name)
    listed = vision(given, "kafka", "topics", "--list")
    assert listed.returncode == 0, listed.stderr
    assert (DLQ in listed.stdout.splitlines()) is (name != "odd")
    if name != SCRAM:
        return
    line = unique("key") + "|value"
    sent = vision(given, "kafka", "produce", "--topic", DLQ, stdin=f"{line}\n")
    assert sent.returncode == 0, sent.stderr
    # its group is ours, the only one that this user may use
    read = ("consume", "--topic", DLQ, "--from-beginning", "--group", "vision", "--timeout-ms", "4000")
    assert line in vision(given, "kafka", *read).stdout.splitlines()
    assert vision(given, "kafka", "groups", "--describe", "--group", "vision").returncode == 0


def test_kafkas_own_tools_say_which_format_a_key_needs(broker: Broker) -> None:
    given = mtls(broker) | {"KAFKA_KEY_FILE": str(broker.certificates.client[1])}
    refused = vision(given, "kafka", "topics", "--list")
    assert refused.returncode == 2
    assert refused.stderr.startswith("KAFKA_KEY_FILE: ")
    assert "openssl pkcs8 -topk8" in refused.stderr


def failed_start(given: Given, folder: Path) -> dict[str, Any]:
    """The line with the reason of a worker that does not start, and nothing like a traceback beside it."""
    ports = {"VISION_API_PORT": str(free_port()), "METRICS_PORT": str(free_port()), "VISION_HOME": str(folder)}
    keys = {"S3_ACCESS_KEY_ID": "key", "S3_SECRET_ACCESS_KEY": "secret"}
    command = [sys.executable, "-m", "vision_app", "--quiet", "worker", "--loglevel", "info"]
    environment = os.environ | given | ports | keys
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=90, env=environment)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert not [secret for secret in (*PASSWORDS.values(), "wrong-password") if secret in done.stderr + done.stdout]
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert not [line for line in lines if "exception" in line]
    [reason] = [line for line in lines if line["event"] == "worker_start_failed"]
    return dict(reason)


@pytest.mark.parametrize("name", ["another authority", "wrong password, SCRAM-SHA-512"])
def test_a_worker_says_why_it_does_not_start(broker: Broker, tmp_path: Path, name: str) -> None:
    assert WRONG[name].says in failed_start(WRONG[name].given(broker), tmp_path)["error"]


def test_a_worker_says_which_rights_it_lacks(broker: Broker, topics: list[str], tmp_path: Path) -> None:
    said = failed_start(sasl(broker, "sasl_tls", user="poor"), tmp_path)["error"]
    assert said.startswith("Kafka: the user poor lacks rights: READ and WRITE on topic posts.vision.uploaded, ")


@pytest.mark.load
@pytest.mark.parametrize("name", WRONG)
def test_a_worker_says_every_wrong_value(broker: Broker, tmp_path: Path, name: str) -> None:
    assert WRONG[name].says in failed_start(WRONG[name].given(broker), tmp_path)["error"]


def own_streams(stack: dict[str, str]) -> Given:
    """The embedded services with streams of this test alone: other tests' entries are on another Kafka."""
    name = unique("secure")
    return stack | {
        "VISION_INPUT_STREAMS": f"{name}:in",
        "VISION_OUTPUT_STREAM": f"{name}:out",
        "VISION_DLQ_STREAM": f"{name}:dlq",
    }


async def waits_for_kafka(worker: Worker, says: str) -> None:
    """Wait until GET /readyz names Kafka and the reason."""
    deadline, seen = time.monotonic() + 60, dict[str, str]()
    async with httpx.AsyncClient(trust_env=False) as client:
        while says not in seen.get("kafka", ""):
            assert time.monotonic() < deadline, f"never said: {seen}"
            seen = (await client.get(f"{worker.url}/readyz")).json()["waiting_for"]
            await asyncio.sleep(0.1)


async def test_a_worker_with_the_least_rights_relays_posts_and_waits_for_a_right_that_is_taken(
    stack: dict[str, str], broker: Broker, topics: list[str], tmp_path: Path
) -> None:
    given = own_streams(stack) | sasl(broker, "sasl_tls")
    worker, tenant = Worker(given, tmp_path, 1), unique("acme")
    first, second = unique("post"), unique("post")
    try:
        worker.start()
        await worker.ready()
        async with pipeline(of(given)) as pipe:
            since = await pipe.newest()
            await pipe.publish(tenant, first, [await pipe.upload(tenant, picture())])
            await pipe.announced([first], since)
            right: list[Grant] = [("vision", TOPIC, "vision.posts", LITERAL, WRITE)]
            await withdraw(broker, right)
            await pipe.publish(tenant, second, [await pipe.upload(tenant, picture())])
            await waits_for_kafka(worker, "Kafka: the user vision lacks rights: topic vision.posts")
            await grant(broker, right)
            await pipe.announced([second], since)
            await pipe.idle()
        given["VISION_API_PORT"] = worker.url.rpartition(":")[2]
        audit = await asyncio.to_thread(vision, given, "audit", "--tenant", tenant)
        assert audit.returncode == 0, audit.stdout + audit.stderr
        found = await asyncio.to_thread(vision, given, "doctor", "--json")
        findings = {one["check"]: one for one in json.loads(found.stdout)}
        assert findings["kafka"]["verdict"] == "ok", findings["kafka"]
        worker.stop()
    finally:
        worker.end()
    log = worker.log()
    assert not [secret for secret in PASSWORDS.values() if secret in log + audit.stdout + found.stdout]


@pytest.mark.load
async def test_a_changed_password_is_waited_for_and_nothing_is_lost(
    stack: dict[str, str], broker: Broker, topics: list[str], tmp_path: Path
) -> None:
    """The broker ends each connection after SESSION_SECONDS, so that the worker has to prove itself again."""
    given = own_streams(stack) | sasl(broker, "short", user="moody")
    worker, tenant = Worker(given, tmp_path, 1), unique("acme")
    posts = [unique("post") for _ in range(3)]
    try:
        worker.start()
        await worker.ready()
        async with pipeline(of(given | sasl(broker, "sasl_tls"))) as pipe:
            since = await pipe.newest()
            await pipe.publish(tenant, posts[0], [await pipe.upload(tenant, picture())])
            await pipe.announced(posts[:1], since)
            await asyncio.to_thread(broker.change_password, "moody", "another-password")
            await asyncio.sleep(2 * SESSION_SECONDS)  # every connection has ended once
            await pipe.publish(tenant, posts[1], [await pipe.upload(tenant, picture())])
            await waits_for_kafka(worker, REFUSED.format("moody", "SCRAM-SHA-512"))
            await pipe.publish(tenant, posts[2], [await pipe.upload(tenant, picture())])
            await asyncio.to_thread(broker.change_password, "moody", PASSWORDS["moody"])
            await pipe.announced(posts, since)
            await pipe.idle()
        worker.stop()
    finally:
        worker.end()
    assert not [secret for secret in PASSWORDS.values() if secret in worker.log()]


@pytest.mark.load
@pytest.mark.parametrize(
    ("kind", "name", "operation", "says"),
    [
        (GROUP, "vision", READ, "READ on group vision"),
        (TOPIC, "vision-posts-changelog", WRITE, "WRITE on topic vision-posts-changelog"),
    ],
)
async def test_a_worker_that_may_not_go_on_ends_and_loses_nothing(
    stack: dict[str, str],
    broker: Broker,
    topics: list[str],
    tmp_path: Path,
    kind: int,
    name: str,
    operation: int,
    says: str,
) -> None:
    """Without its group, or its changelogs, it cannot wait: it ends, and every new start names the right."""
    given = own_streams(stack) | sasl(broker, "sasl_tls", user="moody")
    worker, tenant = Worker(given, tmp_path, 1), unique("acme")
    right: list[Grant] = [("moody", kind, name, LITERAL, operation)]
    posts = [unique("post") for _ in range(2)]
    try:
        worker.start()
        await worker.ready()
        async with pipeline(of(given | sasl(broker, "sasl_tls"))) as pipe:
            since = await pipe.newest()
            await pipe.publish(tenant, posts[0], [await pipe.upload(tenant, picture())])
            await pipe.announced(posts[:1], since)
            await withdraw(broker, right)
            try:
                await pipe.publish(tenant, posts[1], [await pipe.upload(tenant, picture())])
                deadline = time.monotonic() + 90
                while worker.alive:
                    assert time.monotonic() < deadline, "it goes on without the right"
                    await asyncio.sleep(0.2)
                assert says in (await asyncio.to_thread(failed_start, given, tmp_path))["error"]
            finally:
                await grant(broker, right)
            worker.start()
            await worker.ready()
            await pipe.announced(posts, since)
            await pipe.idle()
        worker.stop()
    finally:
        worker.end()
