"""Clients of Redis: one server, or the master that Sentinels name, each with or without TLS."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Sequence
from typing import Any, cast

from redis.asyncio import Redis
from redis.asyncio.connection import ConnectionPool, SSLConnection, parse_url
from redis.asyncio.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
)
from redis.exceptions import (
    AuthenticationError,
    ClusterCrossSlotError,
    MovedError,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeout

from vision_app.settings import Settings
from vision_app.texts import noted, say

from .faults import Service, causes, explain
from .redis_rights import needed_commands
from .tls import TlsFiles, client_context

REDIS = Service("Redis", "REDIS_URL", "REDIS")
SENTINEL = Service("Redis Sentinel", "REDIS_SENTINELS", "REDIS")
TLS = "rediss://"
_CLUSTER = noted(
    "Redis: the server is part of a Redis Cluster, and our scripts touch keys of several hash slots; name a single "
    "server, or one with replicas and Sentinels, in REDIS_URL"
)

_SHOWN = {
    "XGROUP": 3,
    "XREADGROUP": 6,
    "XINFO": 3,
    "EVALSHA": 5,
}  # words up to the first key, where it is not the second


class ClusterRefused(RedisError):
    """Redis runs as a cluster, which our scripts cannot use. Name a single or replicated server in REDIS_URL."""


class RightsMissing(NoPermissionError):
    """The user of REDIS_URL may not do what the worker needs. The message names the commands; have them granted."""


class _Secured(SSLConnection):
    """A connection with a context of ours: redis-py would trust the usual authorities beside the given one."""

    def __init__(self, *, context: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context.context = context


class _SecuredToMaster(SentinelManagedConnection, _Secured):
    """The same, to the master that the Sentinels name."""


class _Sentinels(Sentinel):
    """Keeps why a Sentinel cannot be asked: redis-py's own error names only the type."""

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        faults = []
        asked: list[Any] = self.sentinels
        for sentinel in asked:
            try:
                state = (await sentinel.sentinel_masters()).get(service_name)
            except (RedisError, OSError) as fault:
                faults.append(fault)
                continue
            if state and self.check_master_state(state, service_name):
                return state["ip"], state["port"]
        unknown = MasterNotFoundError(say("no Sentinel names a master {service_name!r}", service_name=service_name))
        raise unknown from (ExceptionGroup("of the Sentinels", faults) if faults else None)


class _MasterPool(SentinelConnectionPool):
    """Closes the connections to the Sentinels with its own."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        await super().disconnect(inuse_connections)
        if inuse_connections:
            for sentinel in self.sentinel_manager.sentinels:
                await sentinel.aclose()


def redis_client(
    settings: Settings, *, timeout: float | None = None, connect_timeout: float | None = None, **options: Any
) -> Redis:
    """A client, not connected yet. Timeouts in seconds; `connect_timeout` is `timeout` unless given.

    `options`: further ones of redis-py's client. Raises SettingsError when a file of certificates cannot be used.
    """
    url = settings.redis_url.get_secret_value()
    options |= {"socket_timeout": timeout, "socket_connect_timeout": connect_timeout or timeout}
    given: dict[str, Any] = {**parse_url(url)}
    secured: dict[str, Any] = (
        {"connection_class": _Secured, "context": _context(settings)} if url.startswith(TLS) else {}
    )
    if not settings.redis_sentinels:
        return Redis.from_pool(ConnectionPool(**{**options, **given, **secured}))
    for replaced in ("host", "port", "connection_class"):
        given.pop(replaced, None)
    password = settings.redis_sentinel_password.get_secret_value() or None
    own: dict[str, Any] = {**options, "decode_responses": False, "password": password, **secured}
    sentinels: Any = _Sentinels([])  # type: ignore[no-untyped-call]  # redis-py's own lack of types
    sentinels.sentinels = [
        Redis.from_pool(ConnectionPool(host=host, port=port, **own)) for host, port in settings.sentinels
    ]
    if secured:
        secured["connection_class"] = _SecuredToMaster
    arguments = {**options, **given, **secured}
    pool = _MasterPool(settings.redis_sentinel_master, sentinels, **arguments)  # type: ignore[no-untyped-call]  # as above
    return Redis.from_pool(pool)


def _context(settings: Settings) -> ssl.SSLContext:
    return client_context(
        TlsFiles(
            "REDIS",
            settings.redis_ca_file,
            settings.redis_cert_file,
            settings.redis_key_file,
            settings.redis_key_password.get_secret_value(),
        )
    )


async def check_server(client: Redis, settings: Settings) -> None:
    """Refuse a cluster, and a user without the rights that the worker needs. Changes nothing.

    Raises ClusterRefused, RightsMissing, and redis-py's and the system's errors when Redis is away.
    """
    await refuse_cluster(client)
    if missing := await missing_rights(client, settings):
        raise RightsMissing(say("the user of REDIS_URL lacks rights: {missing}", missing="; ".join(missing)))


async def refuse_cluster(client: Redis) -> None:
    """Raises ClusterRefused; nothing if Redis does not say."""
    try:
        found = await client.info("cluster")
    except NoPermissionError:
        return  # it is among the missing rights
    if found.get("cluster_enabled"):
        raise ClusterRefused(_CLUSTER)


async def missing_rights(client: Redis, settings: Settings) -> list[str]:
    """What Redis says to each command and key that the worker needs and the user has no right to, each once.

    The commands are queued in a transaction that is then discarded: Redis checks rights when it queues.
    """
    pool: Any = client.connection_pool
    connection = await pool.get_connection()
    try:
        first = await _answers(connection, [("MULTI",)])
        if first:
            return first
        missing = await _answers(connection, needed_commands(settings))
        return missing + await _answers(connection, [("DISCARD",)])
    finally:
        if connection.is_connected:
            await connection.disconnect()  # no transaction of ours stays open on it
        await pool.release(connection)


async def _answers(connection: Any, commands: Sequence[Sequence[str]]) -> list[str]:
    """Send commands at once. Returns the refusals for missing rights, each with its command."""
    await connection.send_packed_command(connection.pack_commands(commands))
    refused: dict[str, list[str]] = {}
    for command in commands:
        try:
            await connection.read_response()
        except NoPermissionError as fault:
            refused.setdefault(str(fault), []).append(" ".join(command[: _SHOWN.get(command[0], 2)]))
        except ResponseError:
            if command[0] != "DISCARD":  # a transaction with a refused command is aborted, and DISCARD ends it
                raise
    return [f"{text} ({', '.join(dict.fromkeys(calls))})" for text, calls in refused.items()]


async def eviction_policy(client: Redis) -> str | None:
    """Redis' `maxmemory-policy`; None if we may not ask. INFO tells it: managed services forbid CONFIG."""
    try:
        found = await client.info("memory")
    except ResponseError:
        return None
    policy = found.get("maxmemory_policy")
    return str(policy) if policy else None


async def ping(client: Redis) -> None:
    """Raises redis-py's and the system's errors when Redis is away."""
    await cast(Awaitable[bool], client.ping())


def redis_fault(fault: BaseException, settings: Settings) -> str:
    """What is wrong with Redis and what to do, in one sentence without secrets."""
    for cause in causes(fault):
        if isinstance(cause, MasterNotFoundError):
            return _no_master(cause, settings)
        if isinstance(cause, ClusterRefused | MovedError | ClusterCrossSlotError) or "CROSSSLOT" in str(cause):
            return _CLUSTER
        if isinstance(cause, RightsMissing):
            return say("Redis: {cause}; have them granted, docs/connecting.md lists the least rights", cause=cause)
        if isinstance(cause, NoPermissionError) or "NOPERM" in str(cause):
            return say(
                "Redis: a right is missing: {cause}; have it granted, docs/connecting.md lists the least rights",
                cause=cause,
            )
    return _explained(fault, REDIS, "REDIS_URL", settings)


def _no_master(fault: MasterNotFoundError, settings: Settings) -> str:
    given = f"REDIS_SENTINEL_MASTER={settings.redis_sentinel_master}"
    if fault.__cause__ is None:
        return say(
            "Redis: the Sentinels know no usable master of this name; check {given}, and the state of the servers",
            given=given,
        )
    faults = [cause for cause in causes(fault.__cause__) if isinstance(cause, RedisError)]
    told = "; ".join(dict.fromkeys(_explained(one, SENTINEL, "REDIS_SENTINEL_PASSWORD", settings) for one in faults))
    return say("Redis: no Sentinel that answers names a usable master, check {given}; {told}", given=given, told=told)


def _explained(fault: BaseException, service: Service, password: str, settings: Settings) -> str:
    kinds = [type(cause) for cause in causes(fault)]
    if any(issubclass(kind, AuthenticationError) for kind in kinds) or "NOAUTH" in str(fault):
        return say(
            "{title} refuses user or password ({fault}); check both in {password}",
            title=service.title,
            fault=fault,
            password=password,
        )
    if any(issubclass(kind, TimeoutError | RedisTimeout) for kind in kinds) and ssl.SSLError not in kinds:
        doubt = (
            say(", and that it speaks TLS on this port")
            if settings.redis_url.get_secret_value().startswith(TLS)
            else ""
        )
        return say(
            "{title}: no answer in time; check {address_variable} and that it runs{doubt}",
            title=service.title,
            address_variable=service.address_variable,
            doubt=doubt,
        )
    if told := explain(fault, service):
        return told
    if "Connection closed by server" in str(fault):
        return say(
            "{title}: the server closes the connection; check {address_variable}, and whether the server "
            "expects TLS on this port (rediss://)",
            title=service.title,
            address_variable=service.address_variable,
        )
    return say(
        "{title}: {kind}: {fault}; check {address_variable}, and memory and state of the server",
        title=service.title,
        kind=type(fault).__name__,
        fault=fault,
        address_variable=service.address_variable,
    )
