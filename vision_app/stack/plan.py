"""Decides which services are embedded and which external, from the settings and their sources."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit

from vision_app.settings import Settings, Source
from vision_app.stack.home import Home
from vision_app.stack.instance import Instance
from vision_app.stack.kafka import ClusterKafka, Kafka, check_brokers, stored_brokers
from vision_app.stack.neo4j import DEFAULT_PASSWORD, Neo4j
from vision_app.stack.postgres import Postgres
from vision_app.stack.redis import Redis
from vision_app.stack.s3 import S3
from vision_app.stack.services import Service
from vision_app.stack.simulator import Simulator
from vision_app.stack.worker import COMMAND, Worker

INFRASTRUCTURE = ("redis", "kafka", "postgres", "neo4j", "s3", "simulator")
URL_SETTINGS = {
    "redis": "redis_url",
    "kafka": "kafka_bootstrap_servers",
    "postgres": "database_url",
    "neo4j": "neo4j_uri",
    "s3": "s3_endpoint_url",
    "simulator": "gigachat_base_url",
}
PASSWORD_PARAMETER = re.compile(r"([?&][^=&#]*password[^=&#]*=)[^&#]*", re.I)
GIGACHAT_CREDENTIALS = ("gigachat_credentials", "gigachat_client_id")


@dataclass
class StackPlan:
    """The services that one supervisor runs, and the external ones that it only lists (name → URL without secrets)."""

    services: list[Service] = field(default_factory=list)
    workers: list[Service] = field(default_factory=list)
    external: dict[str, str] = field(default_factory=dict)
    gigachat: str = ""
    make_worker: Callable[[int], Service] | None = None  # a further worker, by its number

    def variables(self) -> dict[str, str]:
        """The contents of `.vision/env`."""
        return {name: value for service in self.services for name, value in service.variables().items()}


@dataclass(frozen=True)
class StackOptions:
    """The options of the command line. `brokers` 0: as many as this home has data of, else one.

    `broker_proxies`: brokers reach each other at the ports of proxies, which the laboratory starts.
    """

    services: tuple[str, ...] = INFRASTRUCTURE
    workers: int = 1
    worker_command: tuple[str, ...] = COMMAND
    brokers: int = 0
    broker_proxies: bool = False


class Planner:
    """Turns settings into services. A value from `.vision/env` counts as not set: an earlier start wrote it."""

    def __init__(self, home: Home, instance: Instance, settings: Settings, sources: Mapping[str, Source]) -> None:
        self._home, self._instance, self._settings = home, instance, settings
        self._given = {name for name, source in sources.items() if source in (Source.ENVIRONMENT, Source.DOTENV)}

    def plan(self, wish: StackOptions) -> StackPlan:
        """Raises StackError if this home has the data of another number of brokers."""
        plan = StackPlan()
        for name in INFRASTRUCTURE:
            if name not in wish.services or (name == "neo4j" and not self._settings.feature_neo4j_enabled):
                continue
            if self._is_external(name):
                plan.external["gigachat" if name == "simulator" else name] = self._url(name)
            elif name == "kafka":
                plan.services += self._brokers(wish)
            else:
                plan.services.append(self._embedded(name))
        plan.make_worker = partial(self._further_worker, command=wish.worker_command)
        plan.workers = [self._worker(number, wish.worker_command) for number in range(1, wish.workers + 1)]
        simulated = any(service.name == "simulator" for service in plan.services)
        plan.gigachat = "simulated" if simulated or self._settings_say_simulated() else self._url("simulator")
        return plan

    def _is_external(self, name: str) -> bool:
        if name == "simulator" and self._any_given(GIGACHAT_CREDENTIALS):
            return True
        if name == "redis" and self._settings.redis_sentinels:
            return True
        return URL_SETTINGS[name] in self._given

    def _any_given(self, names: Collection[str]) -> bool:
        return not self._given.isdisjoint(names)

    def _settings_say_simulated(self) -> bool:
        return self._settings.gigachat_simulated and "gigachat_simulated" in self._given

    def _url(self, name: str) -> str:
        if name == "redis" and self._settings.redis_sentinels:
            return f"{self._settings.redis_sentinel_master} of the Sentinels {self._settings.redis_sentinels}"
        field_name = URL_SETTINGS[name]
        if field_name not in self._given:  # credentials alone: the real service at its usual address
            return str(Settings.model_fields[field_name].default)
        value = getattr(self._settings, field_name)
        return without_password(value if isinstance(value, str) else value.get_secret_value())

    def _embedded(self, name: str) -> Service:
        home, instance, settings = self._home, self._instance, self._settings
        if name == "s3":
            return S3(
                home, instance, settings.s3_bucket, *map(self._secret, ("s3_access_key_id", "s3_secret_access_key"))
            )
        if name == "neo4j":
            return Neo4j(home, instance, self._secret("neo4j_password") or DEFAULT_PASSWORD)
        kinds: dict[str, type[Service]] = {"redis": Redis, "postgres": Postgres, "simulator": Simulator}
        return kinds[name](home, instance)

    def _brokers(self, wish: StackOptions) -> list[Service]:
        home, instance = self._home, self._instance
        brokers = wish.brokers or stored_brokers(home) or 1
        check_brokers(home, brokers)
        if brokers == 1:
            return [Kafka(home, instance)]
        return [
            ClusterKafka(home, instance, number, brokers, proxied=wish.broker_proxies)
            for number in range(1, brokers + 1)
        ]

    def _secret(self, name: str) -> str:
        return str(getattr(self._settings, name).get_secret_value()) if name in self._given else ""

    def _further_worker(self, number: int, command: tuple[str, ...]) -> Worker:
        worker = self._worker(number, command)
        self._instance.save(self._home)
        return worker

    def _worker(self, number: int, command: tuple[str, ...]) -> Worker:
        ports = (self._settings.vision_api_port, self._settings.metrics_port) if number == 1 else (0, 0)
        return Worker(self._home, self._instance, number, *ports, command=command)


def without_password(url: str) -> str:
    """The URL with every password in it, in the user part or in a parameter, replaced by asterisks."""
    parts = urlsplit(url)
    if parts.password:
        url = parts._replace(netloc=f"{parts.username or ''}:********@{parts.netloc.rpartition('@')[2]}").geturl()
    return PASSWORD_PARAMETER.sub(r"\1********", url)
