"""A real broker that asks for TLS, users and rights: one KRaft node with a listener for each case."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest
from cryptography.hazmat.primitives import serialization

from tests.processes import serving
from tests.tls_files import Certificates
from vision_app.stack.environment import plain
from vision_app.stack.jars import classpath
from vision_app.stack.java import Java
from vision_app.stack.kafka import OPTIONS, broker_logging
from vision_app.stack.ports import choose

LISTENERS = {
    "plain": "PLAINTEXT",
    "tls": "SSL",
    "mtls": "SSL",
    "expired": "SSL",
    "other_name": "SSL",
    "sasl_plain": "SASL_PLAINTEXT",
    "sasl_tls": "SASL_SSL",
    "scram_only": "SASL_SSL",
    "astray": "SASL_SSL",
    "short": "SASL_SSL",
}
"""Names of listeners and their protocols.

`mtls` wants a client's certificate, `expired` and `other_name` have certificates that are wrong in this way,
`scram_only` knows no mechanism but SCRAM-SHA-512, `astray` advertises an address where nothing listens, and `short`
closes connections SESSION_SECONDS after they were made, as brokers do that want clients to prove themselves again.
"""

SESSION_SECONDS = 5

PASSWORDS = {"vision": "of-vision;=$ #!", "maker": "of-maker", "poor": "of-poor", "moody": "of-moody"}
"""Users and passwords, for each mechanism. Only those of `grant` have rights; `User:ANONYMOUS` may do everything."""

ODD, ODD_PASSWORD = "odd", 'odd "quoted" \\ ä'
"""One more user, for PLAIN only."""


@dataclass(frozen=True)
class Broker:
    """`ports`: of the listeners, by name."""

    folder: Path
    ports: dict[str, int]
    java: Java
    certificates: Certificates

    def server(self, listener: str) -> str:
        return f"localhost:{self.ports[listener]}"

    def tool(self, main_class: str, *arguments: str) -> str:
        """Run one of Kafka's own tools as the user who may do everything."""
        command = self.java.command(main_class, "--bootstrap-server", self.server("plain"), *arguments)
        done = subprocess.run(command, capture_output=True, text=True, env=plain(), timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def change_password(self, user: str, password: str, mechanism: str = "SCRAM-SHA-512") -> None:
        credentials = f"{mechanism}=[password={password}]"
        change = ("--alter", "--entity-type", "users", "--entity-name", user, "--add-config", credentials)
        self.tool("kafka.admin.ConfigCommand", *change)


@contextmanager
def secured_broker(folder: Path, certificates: Certificates) -> Iterator[Broker]:
    """Start it, with a cluster and users of its own, and end it after the block."""
    taken: set[int] = set()
    ports = {}
    for name in (*LISTENERS, "controller", "nobody"):
        ports[name] = choose(taken)
        taken.add(ports[name])
    java = Java("kafka", classpath("kafka"))
    logging = folder / "log4j2.properties"
    logging.write_text(broker_logging())
    properties = folder / "server.properties"
    properties.write_text(_configuration(folder, ports, certificates), "utf-8")
    log_option = (f"-Dlog4j2.configurationFile={logging}",)
    users = [
        part
        for user in PASSWORDS
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
        for part in ("--add-scram", f"{mechanism}=[name={user},password={_scram(PASSWORDS[user])}]")
    ]
    cluster = ("--cluster-id", "c2VjdXJlZC1icm9rZXItMQ", "--config", str(properties))
    format_it = java.command("kafka.tools.StorageTool", "format", *cluster, *users, options=log_option)
    done = subprocess.run(format_it, capture_output=True, text=True, env=plain(), timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    command = java.command("kafka.Kafka", str(properties), options=OPTIONS + log_option)
    with serving(command, ports["plain"], folder / "broker.log"):
        broker = Broker(folder, ports, java, certificates)
        asyncio.run(_joined(broker))
        yield broker


async def _joined(broker: Broker) -> None:
    """Wait until the node is a member of its cluster."""
    deadline = time.monotonic() + 60
    while True:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.server("plain"))
        await admin.start()
        try:
            if (await admin.describe_cluster())["brokers"]:
                return
        finally:
            await admin.close()
        assert time.monotonic() < deadline, "the broker did not join its cluster"
        await asyncio.sleep(0.1)


def _scram(password: str) -> str:
    return '"' + password.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _configuration(folder: Path, ports: dict[str, int], made: Certificates) -> str:
    pems = {name: _keystore(folder, name, pair) for name, pair in _certificates_of(made).items()}
    advertised = {name: ports["nobody" if name == "astray" else name] for name in LISTENERS}
    lines: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{ports['controller']}",
        "listeners": ",".join(
            [
                *(f"{name}://127.0.0.1:{ports[name]}" for name in LISTENERS),
                f"CONTROLLER://127.0.0.1:{ports['controller']}",
            ]
        ),
        "advertised.listeners": ",".join(f"{name}://localhost:{port}" for name, port in advertised.items()),
        "listener.security.protocol.map": ",".join(
            ["CONTROLLER:PLAINTEXT", *(f"{name}:{protocol}" for name, protocol in LISTENERS.items())]
        ),
        "inter.broker.listener.name": "plain",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": folder / "data",
        "auto.create.topics.enable": "false",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "false",
        "super.users": "User:ANONYMOUS",  # the controller itself, and the test where it arranges things
        "group.initial.rebalance.delay.ms": 0,
        "connection.failed.authentication.delay.ms": 0,  # against guessing; the tests need no guard
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "listener.name.mtls.ssl.client.auth": "required",
        "listener.name.mtls.ssl.principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/$1/,DEFAULT",
    }
    for name, protocol in LISTENERS.items():
        of = f"listener.name.{name}"
        if protocol.endswith("SSL"):
            lines[f"{of}.ssl.keystore.type"] = lines[f"{of}.ssl.truststore.type"] = "PEM"
            lines[f"{of}.ssl.keystore.location"] = pems.get(name, pems["server"])
            lines[f"{of}.ssl.truststore.location"] = made.ca
        if protocol.startswith("SASL"):
            mechanisms = ["SCRAM-SHA-512"] if name == "scram_only" else ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
            lines[f"{of}.sasl.enabled.mechanisms"] = ",".join(mechanisms)
            for mechanism in mechanisms:
                if name == "short":
                    lines[f"{of}.{mechanism.lower()}.connections.max.reauth.ms"] = SESSION_SECONDS * 1000
                lines[f"{of}.{mechanism.lower()}.sasl.jaas.config"] = _jaas(mechanism)
    return "".join(f"{key}={_escaped(str(value))}\n" for key, value in lines.items())


def _jaas(mechanism: str) -> str:
    if mechanism != "PLAIN":
        return "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    users = " ".join(f"user_{name}={_scram(password)}" for name, password in {**PASSWORDS, ODD: ODD_PASSWORD}.items())
    return f"org.apache.kafka.common.security.plain.PlainLoginModule required {users};"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").encode("ascii", "backslashreplace").decode().replace("\\xe4", "\\u00e4")


def _certificates_of(made: Certificates) -> dict[str, tuple[Path, Path]]:
    return {"server": made.server, "expired": made.expired, "other_name": made.other_name}


def _keystore(folder: Path, name: str, pair: tuple[Path, Path]) -> Path:
    chain, key = pair
    path = folder / f"{name}.keystore.pem"
    path.write_bytes(pkcs8(key) + chain.read_bytes())
    return path


def pkcs8(key: Path, password: str = "") -> bytes:
    """The key in the only format that Java reads."""
    encryption = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    return serialization.load_pem_private_key(key.read_bytes(), None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


# --- rights -----------------------------------------------------------------------------------------------------------

TOPIC, GROUP, CLUSTER = 2, 3, 4
LITERAL, PREFIXED = 3, 4
READ, WRITE, CREATE = 3, 4, 5
ALLOW, ANY_HOST = 3, "*"

Grant = tuple[str, int, str, int, int]
"""User, kind of resource, its name, LITERAL or PREFIXED, operation."""

WITHIN_SECONDS = 20


async def grant(broker: Broker, grants: Iterable[Grant]) -> None:
    """Give users rights. Returns when the broker follows them."""
    rules = _rules(grants)
    async with _client(broker) as client:
        node = client.get_random_node()
        answers = await asyncio.gather(*(client.send(node, CreateAclsRequest(*rule)) for rule in rules))
        assert [error for answer in answers for error, _ in answer.creation_responses if error] == []
        await _until(client, rules, there=True)


async def withdraw(broker: Broker, grants: Iterable[Grant]) -> None:
    """Take rights away. Returns when the broker follows."""
    rules = _rules(grants)
    async with _client(broker) as client:
        node = client.get_random_node()
        answers = await asyncio.gather(*(client.send(node, DeleteAclsRequest(*rule)) for rule in rules))
        assert [len(matching) for answer in answers for _, _, matching in answer.filter_responses] == [1] * len(rules)
        await _until(client, rules, there=False)


async def _until(client: AIOKafkaClient, rules: list[tuple[Any, ...]], there: bool) -> None:
    """The controller has answered; wait until the broker's own copy of the rules has changed, too."""
    deadline = time.monotonic() + WITHIN_SECONDS
    for rule in rules:
        while bool((await client.send(client.get_random_node(), DescribeAclsRequest(*rule))).resources) is not there:
            assert time.monotonic() < deadline, f"the broker does not follow {rule}"
            await asyncio.sleep(0.05)


def _rules(grants: Iterable[Grant]) -> list[tuple[Any, ...]]:
    return [
        (kind, name, pattern, f"User:{user}", ANY_HOST, operation, ALLOW)
        for user, kind, name, pattern, operation in grants
    ]


@asynccontextmanager
async def _client(broker: Broker) -> AsyncIterator[AIOKafkaClient]:
    client = AIOKafkaClient(bootstrap_servers=broker.server("plain"))
    await client.bootstrap()
    try:
        yield client
    finally:
        await client.close()
