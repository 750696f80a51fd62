"""Fault proxies in front of all services of a worker, and the variables that make a worker use them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from vision_app.settings import Settings, load_settings, vision_home
from vision_app.stack.errors import StackError
from vision_app.stack.home import Home
from vision_app.stack.instance import Instance
from vision_app.stack.kafka import ADVERTISED_PORT, PROXIED_PORT

from .proxy import LOOPBACK, FaultProxy

VARIABLES = {
    "redis": ("REDIS_URL",),
    "postgres": ("DATABASE_URL",),
    "s3": ("S3_ENDPOINT_URL",),
    "neo4j": ("NEO4J_URI",),
    "gigachat": ("GIGACHAT_BASE_URL", "GIGACHAT_AUTH_URL"),
}


@dataclass
class Proxies:
    """`env` overrides a worker's environment so that it uses the proxies; `proxies` are redis, kafka, postgres, s3,
    neo4j and gigachat.
    """

    env: dict[str, str] = field(default_factory=dict)
    proxies: dict[str, FaultProxy] = field(default_factory=dict)

    def heal(self) -> None:
        for proxy in self.proxies.values():
            proxy.heal()


@contextlib.asynccontextmanager
async def proxied(given: Settings | Mapping[str, str]) -> AsyncIterator[Proxies]:
    """Proxies in front of the embedded services, from settings or from a stack's variables; they end with the context.

    Raises StackError when a service is not embedded: it uses TLS, or it is a Kafka without the listener for the proxy.
    """
    settings, home = _read(given)
    made = Proxies()
    try:
        for name, variables in VARIABLES.items():
            await _put_proxy_before(made, name, {variable: _value(settings, variable) for variable in variables})
        await _put_proxy_before_kafka(made, Instance.load(home))
        yield made
    finally:
        for proxy in made.proxies.values():
            await proxy.stop()


async def _put_proxy_before(made: Proxies, name: str, urls: Mapping[str, str]) -> None:
    places = {(urlsplit(url).hostname, urlsplit(url).port) for url in urls.values()}
    [(host, port), *others] = places
    if others or not host or not port or any(urlsplit(url).scheme == "https" for url in urls.values()):
        raise StackError(f"{name}: fault proxies stand before embedded services only; unset {' and '.join(urls)}")
    proxy = made.proxies[name] = FaultProxy(name, host, port)
    listening = await proxy.start()
    made.env |= {variable: _moved(url, listening) for variable, url in urls.items()}


async def _put_proxy_before_kafka(made: Proxies, instance: Instance) -> None:
    """Clients connect to what the broker advertises, so one of its listeners advertises the proxy's address."""
    if "kafka-1" in instance.ports:
        return  # a cluster: its brokers are disturbed themselves
    if not instance.ports.keys() >= {PROXIED_PORT, ADVERTISED_PORT}:
        raise StackError("the fault proxy needs the embedded Kafka; unset KAFKA_BOOTSTRAP_SERVERS and run `vision up`")
    proxy = made.proxies["kafka"] = FaultProxy("kafka", LOOPBACK, instance.ports[PROXIED_PORT])
    made.env["KAFKA_BOOTSTRAP_SERVERS"] = f"{LOOPBACK}:{await proxy.start(instance.ports[ADVERTISED_PORT])}"


def _read(given: Settings | Mapping[str, str]) -> tuple[Settings, Home]:
    if isinstance(given, Settings):
        return given, Home(vision_home())
    home = Path(given["VISION_HOME"]) if "VISION_HOME" in given else vision_home()
    return load_settings(**{name.lower(): value for name, value in given.items()}), Home(home)


def _value(settings: Settings, variable: str) -> str:
    value = getattr(settings, variable.lower())
    return value if isinstance(value, str) else str(value.get_secret_value())


def _moved(url: str, port: int) -> str:
    """The same URL with the proxy's address and unchanged user and password."""
    parts = urlsplit(url)
    user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return parts._replace(netloc=f"{user}{LOOPBACK}:{port}").geturl()
