"""Kafka as an embedded service: one KRaft node, broker and controller in one process, from Maven jars."""

from __future__ import annotations

import base64
import struct
import uuid

from vision_app.stack.files import write_atomically
from vision_app.stack.home import Home
from vision_app.stack.instance import Instance
from vision_app.stack.jars import classpath
from vision_app.stack.java import Java
from vision_app.stack.ports import LOOPBACK
from vision_app.stack.services import Progress, Service, exchange
from vision_app.stack.set_up import run_once

PROXIED_PORT, ADVERTISED_PORT = "kafka-proxied", "kafka-advertised"
"""Names, in the instance's list, of the port of a second listener and of the port it advertises, where a fault proxy
listens.
"""

MAX_MESSAGE_BYTES = 2 * 1024 * 1024
OPTIONS = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
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


class Kafka(Service):
    """A single broker: everything is stored once, and only the worker makes topics."""

    name = "kafka"
    stop_seconds = 30

    def __init__(self, home: Home, instance: Instance) -> None:
        super().__init__(home, instance)
        self.controller_port = instance.port("kafka-controller")
        self.proxied_port, self.advertised_port = instance.port(PROXIED_PORT), instance.port(ADVERTISED_PORT)
        self.java = Java("kafka", [], self.data)

    def prepare(self, progress: Progress) -> None:
        super().prepare(progress)
        self.java = Java("kafka", classpath("kafka", progress), self.data)
        write_atomically(self.data / "log4j2.properties", broker_logging())
        write_atomically(self.data / "server.properties", self._configuration())
        if not (self.data / "log" / "meta.properties").exists():
            progress("formatting the storage")
            cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            arguments = ("format", "--cluster-id", cluster, "--config", str(self.data / "server.properties"))
            storage_tool = Java("kafka", self.java.classpath)
            run_once(
                storage_tool.command("kafka.tools.StorageTool", *arguments, options=self._log_option()),
                "formatting Kafka's storage",
            )

    def command(self) -> list[str]:
        options = OPTIONS + self._log_option()
        return self.java.command("kafka.Kafka", str(self.data / "server.properties"), options=options)

    def ended(self) -> None:
        self.java.keep_archive()

    async def waiting_for(self) -> str | None:
        return None if await _count_brokers(self.port) else "the broker to join its cluster"

    def variables(self) -> dict[str, str]:
        return {"KAFKA_BOOTSTRAP_SERVERS": self.url}

    def _log_option(self) -> tuple[str, ...]:
        return (f"-Dlog4j2.configurationFile={self.data / 'log4j2.properties'}",)

    def _configuration(self) -> str:
        lines = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{LOOPBACK}:{self.controller_port}",
            "listeners": f"PLAINTEXT://{self.url},CONTROLLER://{LOOPBACK}:{self.controller_port},"
            f"PROXIED://{LOOPBACK}:{self.proxied_port}",
            "advertised.listeners": f"PLAINTEXT://{self.url},PROXIED://{LOOPBACK}:{self.advertised_port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT",
            "log.dirs": self.data / "log",
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": 0,  # otherwise every first start waits three seconds for more members
            "broker.heartbeat.interval.ms": 500,
            "broker.session.timeout.ms": 4000,  # after kill -9 the broker can register again only after this time
            "message.max.bytes": MAX_MESSAGE_BYTES,
            "default.replication.factor": 1,
            "min.insync.replicas": 1,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "share.coordinator.state.topic.num.partitions": 1,
        }
        return "".join(f"{key}={value}\n" for key, value in lines.items())


def broker_logging() -> str:
    return LOGGING.format(target="SYSTEM_OUT", level="INFO", pattern="%d{ISO8601} %p %m (%c{1})%n%throwable")


def tool_logging() -> str:
    """The logging of the console tools: only errors, and not on stdout, where the records are."""
    return LOGGING.format(target="SYSTEM_ERR", level="ERROR", pattern="%p %m%n")


async def _count_brokers(port: int) -> int:
    """Ask the broker on this port how many brokers are alive: Metadata v1 for no topic; reads only the count."""
    request = struct.pack(">hhih", 3, 1, 7, -1) + struct.pack(">i", 0)
    answer = await exchange(port, struct.pack(">i", len(request)) + request, 12)
    return struct.unpack(">iii", answer)[2] if answer else 0
