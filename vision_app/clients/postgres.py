"""Connections to Postgres: as the worker, as the owner of the tables, or with a session of its own past pgbouncer."""

from __future__ import annotations

import ssl
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

from vision_app.settings import Settings, SettingsError
from vision_app.texts import noted, say

from .faults import Service, causes, explain

CONNECT_SECONDS = 5
MIGRATE = noted("run `vision migrate apply` with DATABASE_OWNER_URL")
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_UNVERIFIED = {
    "require": noted("encrypts, but does not verify the server's certificate: another server can pose as yours"),
    "verify-ca": noted(
        "does not compare the host name with the certificate: another server of this authority can pose as yours"
    ),
}


class Way(StrEnum):
    """Which of the settings leads to the database."""

    WORKER = "DATABASE_URL"
    OWNER = "DATABASE_OWNER_URL"
    """For `vision migrate`; DATABASE_URL where it is not set."""
    SESSION = "DATABASE_SESSION_URL"
    """For what needs a session; DATABASE_URL unless that leads to pgbouncer in transaction mode."""


async def postgres_pool(settings: Settings, *, size: int, application: str, command_timeout: float) -> Any:
    """A pool of connections of the worker. Raises asyncpg's and the system's errors."""
    url, options = _arguments(settings, Way.WORKER, application)
    if settings.database_pgbouncer:
        options["reset"] = _keep_session
    return await asyncpg.create_pool(
        url, min_size=1, max_size=size, timeout=CONNECT_SECONDS, command_timeout=command_timeout, **options
    )


async def postgres_connection(
    settings: Settings,
    *,
    application: str,
    way: Way = Way.WORKER,
    timeout: float = CONNECT_SECONDS,
    command_timeout: float | None = None,
) -> Any:
    """One connection. Times in seconds. Raises asyncpg's and the system's errors."""
    url, options = _arguments(settings, way, application)
    return await asyncpg.connect(url, timeout=timeout, command_timeout=command_timeout, **options)


def check_postgres_files(settings: Settings) -> None:
    """Raises SettingsError when a file of certificates that a URL of the database names cannot be read."""
    for variable in ("database_url", "database_owner_url", "database_session_url"):
        url = getattr(settings, variable).get_secret_value()
        options = parse_qs(urlsplit(url).query)
        for name in _FILES:
            for path in options.get(name, [])[-1:]:
                _check_file(f"{variable.upper()}: {name}={path}", path)
        for path in options.get("sslrootcert", [])[-1:]:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
            except ssl.SSLError as fault:
                raise SettingsError(
                    say(
                        "{variable}: sslrootcert={path} cannot be used: not in PEM format",
                        variable=variable.upper(),
                        path=path,
                    )
                ) from fault


def _check_file(what: str, path: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as fault:
        raise SettingsError(
            say("{what} cannot be read ({strerror}); check path and permissions", what=what, strerror=fault.strerror)
        ) from fault


def worker_role(settings: Settings) -> str | None:
    """The user of DATABASE_URL; None if the URL names none."""
    url = urlsplit(settings.database_url.get_secret_value())
    return unquote(url.username) if url.username else next(iter(parse_qs(url.query).get("user", [])), None)


def unverified(settings: Settings) -> str | None:
    """What `sslmode` of DATABASE_URL does not protect from, with a remedy; None if it verifies, or asks for no TLS."""
    options = parse_qs(urlsplit(settings.database_url.get_secret_value()).query)
    mode = options.get("sslmode", [""])[-1]
    if mode not in _UNVERIFIED:
        return None
    return say(
        "sslmode={mode} {weakness}; write sslmode=verify-full&sslrootcert=FILE in DATABASE_URL",
        mode=mode,
        weakness=say(_UNVERIFIED[mode]),
    )


def postgres_fault(fault: BaseException, way: Way = Way.WORKER) -> str:
    """What is wrong with Postgres and what to do, in one sentence without secrets."""
    for cause in causes(fault):
        if told := _told_by_server(cause, way):
            return told
    service = Service(
        "Postgres", way.value, way.value, ca_variable=say("sslrootcert=… of {variable}", variable=way.value)
    )
    if told := explain(fault, service):
        return told
    text = str(fault) or type(fault).__name__
    if "rejected SSL upgrade" in text:
        return say(
            "Postgres: the server does not speak TLS; switch it on there, or leave sslmode out of {variable}",
            variable=way.value,
        )
    return say(
        "Postgres: {kind}: {text}; check {variable} and that Postgres runs",
        kind=type(fault).__name__,
        text=text,
        variable=way.value,
    )


def _told_by_server(fault: BaseException, way: Way) -> str | None:
    """For answers of Postgres or pgbouncer."""
    text = str(fault)
    if isinstance(fault, asyncpg.InvalidPasswordError) or "password authentication failed" in text:
        return say(
            "Postgres refuses the password of this user ({text}); check both in {variable}",
            text=text,
            variable=way.value,
        )
    if "requires a valid client certificate" in text or "certificate authentication failed" in text:
        return say(
            "Postgres: {text}; name one that it trusts, for this user, with sslcert=… and sslkey=… in {variable}",
            text=text,
            variable=way.value,
        )
    if isinstance(fault, asyncpg.InvalidAuthorizationSpecificationError):
        if "no encryption" in text or "SSL required" in text:
            return say(
                "Postgres takes only connections with TLS ({text}); write "
                "sslmode=verify-full&sslrootcert=FILE in {variable}",
                text=text,
                variable=way.value,
            )
        return say(
            "Postgres lets this user not in ({text}); check the user in {variable}, and pg_hba.conf of the server",
            text=text,
            variable=way.value,
        )
    if isinstance(fault, asyncpg.InvalidCatalogNameError):
        return say("Postgres: {text}; check the database's name in {variable}", text=text, variable=way.value)
    if isinstance(fault, asyncpg.InsufficientPrivilegeError):
        return say(
            "Postgres: {text}; {remedy}, which grants the worker its rights (docs/connecting.md lists them)",
            text=text,
            remedy=say(MIGRATE),
        )
    if isinstance(fault, asyncpg.InvalidSQLStatementNameError | asyncpg.DuplicatePreparedStatementError):
        return say(
            "Postgres: {text}; if {variable} leads to pgbouncer in transaction mode, set DATABASE_PGBOUNCER=true",
            text=text,
            variable=way.value,
        )
    return None


def _arguments(settings: Settings, way: Way, application: str) -> tuple[str, dict[str, Any]]:
    check_postgres_files(settings)
    url, pooled = settings.database_url, settings.database_pgbouncer
    if way is Way.OWNER and settings.database_owner_url.get_secret_value():
        url = settings.database_owner_url
    if way is Way.SESSION and pooled:
        url, pooled = settings.database_session_url, False
    options: dict[str, Any] = {"server_settings": {"application_name": application, "timezone": "UTC"}}
    if pooled:
        options["statement_cache_size"] = 0  # asyncpg then sends each statement in one piece, as transaction mode needs
    return url.get_secret_value(), options


async def _keep_session(_connection: Any) -> None:
    """There is no session of our own to reset."""
