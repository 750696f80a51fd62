"""Kafka as an embedded service, from Maven jars: one KRaft node, or a cluster of several.

Each node is broker and controller in one process. In a cluster every record is on each of three brokers, and a write
counts when two of them have it.
"""

from __future__ import annotations

import base64
import struct
import uuid
from dataclasses import dataclass

from vision_app.clients.properties import escaped_property
from vision_app.stack.errors import StackError
from vision_app.stack.files import write_atomically
from vision_app.stack.home import Home
from vision_app.stack.instance import Instance
from vision_app.stack.jars import classpath
from vision_app.stack.java import LOCALE, Java
from vision_app.stack.ports import LOOPBACK
from vision_app.stack.services import Progress, Service, exchange
from vision_app.stack.set_up import run_once
from vision_app.texts import say

PROXIED_PORT, ADVERTISED_PORT = "kafka-proxied", "kafka-advertised"
"""Names, in the instance's list, of the port of a second listener and of the port it advertises, where a fault proxy
listens.
"""

COPIES, IN_SYNC = 3, 2
"""Of every record in a cluster: copies, and how many of them a write waits for."""

WORKER_SESSION_SECONDS = 20
"""For workers of a cluster. They give a record up two seconds earlier: by then another broker leads its partition."""

MAX_MESSAGE_BYTES = 2 * 1024 * 1024
OPTIONS = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
CLUSTER_OPTIONS = ("-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
LOGGING = """\
status=error
appender.console.type=Console
appender.console.name=console
appender.console.target={target}
appender.console.layout.type=PatternLayout
appender.console.layout.pattern={pattern}
rootLogger.level={level}
rootLogger.appenderRef.console.ref=console
"""


@dataclass(frozen=True)
class Node:
    """The addresses of one node of a cluster. Brokers and controllers reach each other at the `peer` ports: the same as
    the others, or those of proxies that can cut the node off.
    """

    name: str
    number: int
    port: int
    brokers_port: int
    controllers_port: int
    peer_brokers_port: int
    peer_controllers_port: int

    @classmethod
    def of(cls, instance: Instance, number: int, proxied: bool) -> Node:
        """The node `number`, from 1, with ports that stay the same over restarts."""
        name = f"kafka-{number}"
        own = [instance.port(f"{name}-{role}") for role in ("brokers", "controllers")]
        proxies = [instance.fixed_port(f"{name}-{role}-proxy") for role in ("brokers", "controllers")]
        return cls(name, number, instance.port(name), *own, *(proxies if proxied else own))


def names(brokers: int) -> list[str]:
    """The names of the services."""
    return ["kafka"] if brokers == 1 else [f"kafka-{number}" for number in range(1, brokers + 1)]


def stored_brokers(home: Home) -> int:
    """Of how many brokers this home has data; 0 if it has none."""
    if _formatted(home, "kafka"):
        return 1
    number = 0
    while _formatted(home, f"kafka-{number + 1}"):
        number += 1
    return number


def check_brokers(home: Home, brokers: int) -> None:
    """Raises StackError if this home has the data of another number of brokers."""
    stored = stored_brokers(home)
    if stored not in (0, brokers):
        folders = " ".join(str(home.data(name)) for name in names(stored))
        raise StackError(
            say(
                "the data here is of {stored} Kafka broker(s), not of {brokers}: start with `vision up "
                "--brokers {stored}`, or set VISION_HOME to another folder, or delete all that Kafka holds: rm "
                "-r {folders}",
                stored=stored,
                brokers=brokers,
                folders=folders,
            )
        )


def _formatted(home: Home, name: str) -> bool:
    return (home.data(name) / "log" / "meta.properties").exists()


class Kafka(Service):
    """A single broker: everything is stored once, and only the worker makes topics."""

    name = "kafka"
    stop_seconds = 30
    brokers = 1
    options: tuple[str, ...] = OPTIONS

    def __init__(self, home: Home, instance: Instance) -> None:
        super().__init__(home, instance)
        self._choose_ports(instance)
        self.cluster_id = instance.keys.setdefault("kafka-cluster", _new_cluster_id())
        self.java = Java("kafka", [], self.data)

    def _choose_ports(self, instance: Instance) -> None:
        self.controller_port = instance.port("kafka-controller")
        self.proxied_port, self.advertised_port = instance.port(PROXIED_PORT), instance.port(ADVERTISED_PORT)

    def prepare(self, progress: Progress) -> None:
        super().prepare(progress)
        self.java = Java("kafka", classpath("kafka", progress), self.data)
        write_atomically(self.data / "log4j2.properties", broker_logging())
        write_atomically(self.data / "server.properties", self._configuration())
        if not _formatted(self.home, self.name):
            progress(say("formatting the storage"))
            # One argument: an id that begins with "-" would be taken for an option.
            arguments = ("format", f"--cluster-id={self.cluster_id}", f"--config={self.data / 'server.properties'}")
            storage_tool = Java("kafka", self.java.classpath)
            run_once(
                storage_tool.command("kafka.tools.StorageTool", *arguments, options=self._log_option()),
                say("formatting Kafka's storage"),
                env=LOCALE,
            )

    def command(self) -> list[str]:
        options = self.options + self._log_option()
        return self.java.command("kafka.Kafka", str(self.data / "server.properties"), options=options)

    def environment(self) -> dict[str, str]:
        return dict(LOCALE)

    def ended(self) -> None:
        self.java.keep_archive()

    async def waiting_for(self) -> str | None:
        return None if await count_brokers(self.port) else say("the broker to join its cluster")

    def variables(self) -> dict[str, str]:
        return {"KAFKA_BOOTSTRAP_SERVERS": self.url}

    def _log_option(self) -> tuple[str, ...]:
        return (f"-Dlog4j2.configurationFile={self.data / 'log4j2.properties'}",)

    def _configuration(self) -> str:
        lines = {
            **_common(copies=1, in_sync=1),
            "node.id": 1,
            "controller.quorum.voters": f"1@{LOOPBACK}:{self.controller_port}",
            "listeners": f"PLAINTEXT://{self.url},CONTROLLER://{LOOPBACK}:{self.controller_port},"
            f"PROXIED://{LOOPBACK}:{self.proxied_port}",
            "advertised.listeners": f"PLAINTEXT://{self.url},PROXIED://{LOOPBACK}:{self.advertised_port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT",
            "log.dirs": self.data / "log",
        }
        return _properties(lines)


class ClusterKafka(Kafka):
    """One node of a cluster."""

    start_seconds = 120  # it waits for the others
    options = CLUSTER_OPTIONS

    def __init__(self, home: Home, instance: Instance, number: int, brokers: int, *, proxied: bool = False) -> None:
        self.name, self.brokers, self.number = f"kafka-{number}", brokers, number
        self._nodes = [Node.of(instance, each, proxied) for each in range(1, brokers + 1)]
        self._was_complete = False
        super().__init__(home, instance)

    def _choose_ports(self, instance: Instance) -> None:
        """Does nothing: `Node.of` has chosen them."""

    async def waiting_for(self) -> str | None:
        """At first it waits for the whole cluster, later only for itself: another broker that is away is no fault."""
        joined = await count_brokers(self.port)
        self._was_complete = self._was_complete or joined >= self.brokers
        if joined and self._was_complete:
            return None
        return say("the brokers to join their cluster: {joined} of {brokers} have", joined=joined, brokers=self.brokers)

    def variables(self) -> dict[str, str]:
        return {
            "KAFKA_BOOTSTRAP_SERVERS": ",".join(f"{LOOPBACK}:{node.port}" for node in self._nodes),
            "KAFKA_TOPIC_REPLICATION_FACTOR": str(min(COPIES, self.brokers)),
            "KAFKA_MIN_INSYNC_REPLICAS": str(min(IN_SYNC, self.brokers)),
            "KAFKA_SESSION_TIMEOUT_SECONDS": str(WORKER_SESSION_SECONDS),
        }

    def _configuration(self) -> str:
        own = self._nodes[self.number - 1]
        voters = (f"{node.number}@{LOOPBACK}:{node.peer_controllers_port}" for node in self._nodes)
        lines = {
            **_common(copies=min(COPIES, self.brokers), in_sync=min(IN_SYNC, self.brokers)),
            "node.id": self.number,
            "controller.quorum.voters": ",".join(voters),
            "listeners": f"PLAINTEXT://{self.url},BROKERS://{LOOPBACK}:{own.brokers_port},"
            f"CONTROLLER://{LOOPBACK}:{own.controllers_port}",
            "advertised.listeners": f"PLAINTEXT://{self.url},BROKERS://{LOOPBACK}:{own.peer_brokers_port},"
            f"CONTROLLER://{LOOPBACK}:{own.peer_controllers_port}",
            "inter.broker.listener.name": "BROKERS",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,BROKERS:PLAINTEXT",
            "log.dirs": self.data / "log",
        }
        return _properties(lines)


def _common(copies: int, in_sync: int) -> dict[str, object]:
    return {
        "process.roles": "broker,controller",
        "controller.listener.names": "CONTROLLER",
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": 0,  # otherwise every first start waits three seconds for more members
        "broker.heartbeat.interval.ms": 500,
        "broker.session.timeout.ms": 4000,  # after kill -9 the broker can register again only after this time
        "message.max.bytes": MAX_MESSAGE_BYTES,
        "default.replication.factor": copies,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": copies,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": in_sync,
        "share.coordinator.state.topic.num.partitions": 1,
    }


def _properties(lines: dict[str, object]) -> str:
    """The text of a properties file. Java reads it as Latin-1, so that other letters must be escaped, as in paths."""
    return "".join(f"{key}={escaped_property(str(value))}\n" for key, value in lines.items())


def _new_cluster_id() -> str:
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def broker_logging() -> str:
    return LOGGING.format(target="SYSTEM_OUT", level="INFO", pattern="%d{ISO8601} %p %m (%c{1})%n%throwable")


def tool_logging() -> str:
    """The logging of the console tools: only errors, and not on stdout, where the records are."""
    return LOGGING.format(target="SYSTEM_ERR", level="ERROR", pattern="%p %m%n")


async def count_brokers(port: int) -> int:
    """Ask the broker on this port how many brokers are alive: Metadata v1 for no topic; reads only the count."""
    request = struct.pack(">hhih", 3, 1, 7, -1) + struct.pack(">i", 0)
    answer = await exchange(port, struct.pack(">i", len(request)) + request, 12)
    return struct.unpack(">iii", answer)[2] if answer else 0
