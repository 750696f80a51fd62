"""The driver of Neo4j."""

from __future__ import annotations

from typing import Any

from neo4j import AsyncDriver, AsyncGraphDatabase, AsyncSession, NotificationMinimumSeverity
from neo4j.exceptions import AuthError, Forbidden, Neo4jError

from vision_app.settings import Settings
from vision_app.texts import say

from .faults import Service, explain
from .tls import TlsFiles, client_context

NEO4J = Service("Neo4j", "NEO4J_URI", "NEO4J")
VERIFIED = "+s://"


def neo4j_driver(settings: Settings, **options: Any) -> AsyncDriver:
    """A driver, not connected yet. `options`: those of `AsyncGraphDatabase.driver`.

    Raises SettingsError when NEO4J_CA_FILE cannot be used.
    """
    uri = settings.neo4j_uri
    if VERIFIED in uri:  # the driver takes a context of ours only under the plain scheme
        uri = uri.replace(VERIFIED, "://", 1)
        options["ssl_context"] = client_context(TlsFiles("NEO4J", settings.neo4j_ca_file))
    return AsyncGraphDatabase.driver(
        uri,
        auth=(settings.neo4j_user, settings.neo4j_password.get_secret_value()),
        notifications_min_severity=NotificationMinimumSeverity.OFF,  # an empty graph is no warning
        telemetry_disabled=True,
        **options,
    )


def neo4j_patience(seconds: float) -> dict[str, float]:
    """Options of the driver: the time for connecting, and for the handshake, which a frozen server never answers."""
    return {"connection_timeout": seconds, "connection_acquisition_timeout": seconds}


def neo4j_session(driver: AsyncDriver, settings: Settings) -> AsyncSession:
    """A session with NEO4J_DATABASE, or the user's home database."""
    return driver.session(database=settings.neo4j_database or None)


def neo4j_fault(fault: Exception) -> str:
    """What is wrong with the connection and what to do, in one sentence without secrets."""
    if isinstance(fault, AuthError):
        return say(
            "Neo4j refuses the password of this user ({code}); check NEO4J_USER and NEO4J_PASSWORD", code=fault.code
        )
    if isinstance(fault, Forbidden):
        return say("Neo4j: the user of NEO4J_USER lacks a right: {message}; have it granted", message=fault.message)
    if isinstance(fault, Neo4jError) and str(fault.code).endswith("DatabaseNotFound"):
        return say("Neo4j: {message}; check NEO4J_DATABASE", message=fault.message)
    text = say(
        "Neo4j: {kind}: {fault}; check NEO4J_URI, NEO4J_USER and NEO4J_PASSWORD and that it runs",
        kind=type(fault).__name__,
        fault=fault,
    )
    return explain(fault, NEO4J) or text
