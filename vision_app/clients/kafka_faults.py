"""Why Kafka cannot be used, in one sentence with a remedy.

aiokafka hides most reasons behind "Unable to bootstrap". After a failure the way to the brokers is tried again, one
step after another, and the first step that fails tells the reason.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.conn import AIOKafkaConnection, collect_hosts, create_conn
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.admin import SaslHandShakeRequest
from aiokafka.protocol.metadata import MetadataRequest

from vision_app.texts import say

from .faults import Service, causes, explain
from .tls import handshake

KAFKA = Service("Kafka", "KAFKA_BOOTSTRAP_SERVERS", "KAFKA")
TRIAL_SECONDS = 5.0
KNOWN_SECONDS = 10.0
"""A reason is taken for the present one for so long."""
REFUSALS = (TopicAuthorizationFailedError, GroupAuthorizationFailedError, ClusterAuthorizationFailedError)


class KafkaUnusable(KafkaError):  # type: ignore[misc]  # aiokafka has no types
    """Kafka cannot be used as the settings say. The message is one sentence with a remedy, without secrets."""

    def __str__(self) -> str:
        return str(self.args[0])  # KafkaError puts its class name in front


@asynccontextmanager
async def explained(arguments: Mapping[str, Any]) -> AsyncIterator[None]:
    """Turn what aiokafka raises into KafkaUnusable where the reason can be found; other errors pass.

    `arguments`: those of `clients.kafka.client_arguments`.
    """
    try:
        yield
    except KafkaUnusable:
        raise
    except (KafkaError, OSError) as fault:
        reason = _refusal(fault, arguments) or await why_unusable(arguments)
        if reason is None:
            raise
        raise KafkaUnusable(reason) from fault


async def why_unusable(arguments: Mapping[str, Any]) -> str | None:
    """Try the way to the brokers. Returns the reasons why none of them can be used, None if one can."""
    reasons = []
    for host, port, _ in collect_hosts(arguments["bootstrap_servers"], randomize=False):
        trial = _Trial(arguments, host, port)
        if (reason := await trial.reason()) is None:
            return await _why_not_as_advertised(arguments, trial)
        reasons.append(reason)
    return "; ".join(dict.fromkeys(reasons)) or None


async def _why_not_as_advertised(arguments: Mapping[str, Any], first: _Trial) -> str | None:
    """The same for the addresses that the brokers tell; clients use only these after the first request.

    One that can be used is enough: of several brokers some may be away.
    """
    found = None
    for host, port in first.advertised:
        if (host, port) == (first.host, first.port):
            return None
        if (reason := await _Trial(arguments, host, port).reason()) is None:
            return None
        found = found or say(
            "the broker tells its clients to use {host}:{port} (advertised.listeners). {reason}",
            host=host,
            port=port,
            reason=reason,
        )
    return found


class Explainer:
    """Finds the reason for failures while a worker runs, beside its work: nobody waits for a trial."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._arguments = arguments
        self._trial: asyncio.Task[str | None] | None = None
        self._began = 0.0

    def reason(self, fault: BaseException) -> str | None:
        """The reason as one sentence; None where it is not known, or not yet: ask again at the next failure."""
        if refusal := _refusal(fault, self._arguments):
            return refusal
        if self._trial is None or (self._trial.done() and time.monotonic() - self._began > KNOWN_SECONDS):
            self._trial, self._began = asyncio.create_task(why_unusable(self._arguments)), time.monotonic()
        known = self._trial.done() and not self._trial.cancelled() and self._trial.exception() is None
        return self._trial.result() if known else None


class _Trial:
    """One broker, tried step by step. `advertised` is known after a trial that did not fail."""

    def __init__(self, arguments: Mapping[str, Any], host: str, port: int) -> None:
        self.host, self.port = host, port
        self.advertised: list[tuple[str, int]] = []
        self._protocol: str = arguments["security_protocol"]
        self._context: ssl.SSLContext | None = arguments["ssl_context"]
        self._mechanism, self._user = arguments.get("sasl_mechanism"), arguments.get("sasl_plain_username")
        self._arguments = {name: value for name, value in arguments.items() if name != "bootstrap_servers"}

    async def reason(self) -> str | None:
        try:
            connection = await self._connect(**self._arguments)
        except SaslAuthenticationFailed:
            return say(
                "Kafka: user {user} is refused with {mechanism}; check KAFKA_SASL_USERNAME, "
                "KAFKA_SASL_PASSWORD and that the user was made for KAFKA_SASL_MECHANISM",
                user=self._user,
                mechanism=self._mechanism,
            )
        except UnsupportedSaslMechanismError:
            return say(
                "Kafka: the broker does not accept {mechanism} here, only {others}; change "
                "KAFKA_SASL_MECHANISM, or the port in KAFKA_BOOTSTRAP_SERVERS",
                mechanism=self._mechanism,
                others=await self._mechanisms(),
            )
        except IllegalSaslStateError:
            without = "PLAINTEXT" if self._context is None else "SSL"
            return say(
                "Kafka: the broker takes no user and password on this port; check the port in "
                "KAFKA_BOOTSTRAP_SERVERS, or set KAFKA_SECURITY_PROTOCOL={without}",
                without=without,
            )
        except (KafkaError, OSError, ValueError) as fault:  # ValueError: SCRAM, when the server proves a wrong password
            return await self._connecting(fault)
        return await self._asking(connection)

    async def _connect(self, **arguments: Any) -> AIOKafkaConnection:
        return await create_conn(self.host, self.port, request_timeout_ms=int(TRIAL_SECONDS * 1000), **arguments)

    async def _connecting(self, fault: Exception) -> str | None:
        if self._context is None:
            if await self._speaks_tls():
                secure = self._protocol.replace("PLAINTEXT", "SSL")
                return say(
                    "Kafka: the broker speaks TLS on this port; check the port in KAFKA_BOOTSTRAP_SERVERS, "
                    "or set KAFKA_SECURITY_PROTOCOL={secure}",
                    secure=secure,
                )
            return explain(fault, KAFKA) or (explain(ConnectionResetError(), KAFKA) if _is_closed(fault) else None)
        if isinstance(fault, ssl.SSLCertVerificationError):
            return explain(fault, KAFKA)
        if await self._speaks_plainly():
            return say(
                "Kafka: the broker does not speak TLS on this port; check the port in "
                "KAFKA_BOOTSTRAP_SERVERS, or set KAFKA_SECURITY_PROTOCOL={protocol}",
                protocol=self._protocol.replace("SSL", "PLAINTEXT"),
            )
        # With TLS 1.3 a client's certificate is refused after the handshake: aiokafka only sees a closed connection.
        hidden = await handshake(self.host, self.port, self._context)
        return explain(hidden or fault, KAFKA)

    async def _asking(self, connection: AIOKafkaConnection) -> str | None:
        """A port that wants a user answers only which versions it has, and closes at the first real request."""
        try:
            answer = await connection.send(MetadataRequest([]))
            self.advertised = [(host, port) for _, host, port, _ in answer.brokers]
        except (KafkaError, OSError) as fault:
            if self._mechanism is not None or not _is_closed(fault):
                return explain(fault, KAFKA)
            return say(
                "Kafka: the broker wants a user and a password on this port; set "
                "KAFKA_SECURITY_PROTOCOL={needed}, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD, or check "
                "the port in KAFKA_BOOTSTRAP_SERVERS",
                needed="SASL_PLAINTEXT" if self._context is None else "SASL_SSL",
            )
        finally:
            connection.close()
        return None

    async def _mechanisms(self) -> str:
        protocol = self._protocol.removeprefix("SASL_")
        try:
            connection = await self._connect(security_protocol=protocol, ssl_context=self._context)
        except (KafkaError, OSError):
            return "others"
        try:
            answer = await connection.send(SaslHandShakeRequest(self._mechanism))
            return ", ".join(sorted(answer.enabled_mechanisms)) or "others"
        except (KafkaError, OSError):
            return "others"
        finally:
            connection.close()

    async def _speaks_tls(self) -> bool:
        """Whether a handshake comes so far that certificates are compared. Nothing is sent over the connection."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        fault = await handshake(self.host, self.port, context)
        return fault is None or (isinstance(fault, ssl.SSLError) and "ALERT" in (fault.reason or ""))

    async def _speaks_plainly(self) -> bool:
        try:
            connection = await self._connect(security_protocol="PLAINTEXT")
        except (KafkaError, OSError):
            return False
        connection.close()
        return True


def _is_closed(fault: BaseException) -> bool:
    return isinstance(fault, KafkaError | ConnectionError)


def _refusal(fault: BaseException, arguments: Mapping[str, Any]) -> str | None:
    """A right that the user lacks, from the broker's own answer."""
    for cause in causes(fault):
        if isinstance(cause, REFUSALS):
            what = " ".join(str(part) for part in cause.args) or type(cause).__name__
            return lacking(arguments, f"{type(cause).__name__.removesuffix('AuthorizationFailedError').lower()} {what}")
    return None


def lacking(arguments: Mapping[str, Any], what: str) -> str:
    """The sentence about rights that the user does not have."""
    if "sasl_plain_username" in arguments:
        user = say("user {sasl_plain_username}", sasl_plain_username=arguments["sasl_plain_username"])
    else:
        user = say("user ANONYMOUS") if arguments["ssl_context"] is None else say("user of our certificate")
    return say(
        "Kafka: the {user} lacks rights: {what}; grant them as docs/connecting.md (Kafka) lists them",
        user=user,
        what=what,
    )
