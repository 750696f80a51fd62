"""Sends an operator's command to the budget actor: records it in Postgres, then sends it through Kafka.

It is recorded first, so that a ledger rebuilt from Postgres includes every accepted command. If the send fails after
that, the operator gets an error and repeats the command; every command may be repeated.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from urllib.parse import quote

import structlog
from aiohttp import web

from vision_app.messages import Drop, Pause, Reset, Resume, SetLimit
from vision_app.stores.posts import Action
from vision_app.streams.outbox import Oversized
from vision_app.streams.ownership import LeftUnacked
from vision_app.texts import say

from .auth import operator_for
from .errors import ApiError, json_response
from .models import AcceptedAnswer, OperatorHeaders
from .operation import operation
from .worker import ServedWorker

log = structlog.get_logger(__name__)

SEND_SECONDS = 5.0

Command = Reset | SetLimit | Pause | Resume | Drop


@dataclass(frozen=True)
class Change:
    """What an operator does to a tenant's budget. `value`: the new limit, None for the default."""

    tenant_id: str
    action: Action
    operator: str
    value: int | None = None
    reason: str | None = None


command_operation = functools.partial(
    operation, headers=OperatorHeaders, answers={202: AcceptedAnswer}, errors=(403, 404, 503)
)
"""`operation` of a method that hands over a command."""


async def hand_over(app: ServedWorker, request: web.Request, command: Command, operator: str) -> web.Response:
    """Check the caller's right and send a command that is not recorded in Postgres. Answers 202."""
    operator_for(request, command.tenant_id)
    await send(app, command)
    return json_response(request, accepted(command, operator, recorded=False), status=202)


async def record(app: ServedWorker, change: Change) -> bool:
    """Write the change to `budget_actions`. Returns True. Raises ApiError 503 while Postgres is away."""
    async with app.readers.for_page() as reader:
        await reader.record_action(change.tenant_id, change.action, change.operator, change.value, change.reason)
    return True


async def try_to_record(app: ServedWorker, change: Change) -> bool:
    """The same for actions that only save money. Returns False while Postgres is away."""
    try:
        return await record(app, change)
    except ApiError:
        return False


async def send(app: ServedWorker, command: Command) -> None:
    """Send the command to Kafka. Raises ApiError 503 if Kafka does not take it within a few seconds."""
    deadline = time.monotonic() + SEND_SECONDS
    if not app.started or app.should_stop:
        raise ApiError(
            503, "not_ready", say("this worker is starting or stopping; repeat the request in a few seconds")
        )
    try:
        await app.outbox.send([command], keep_trying=lambda: time.monotonic() < deadline)
    except (LeftUnacked, Oversized) as fault:
        log.error("operator_command_not_sent", command=type(command).__name__, error=repr(fault))
        raise ApiError(
            503, "not_sent", say("Kafka does not take the command; see `vision doctor`, then repeat it")
        ) from fault


def accepted(command: Command, operator: str, *, recorded: bool) -> AcceptedAnswer:
    """The answer that says where the effect can be seen. Logs the command."""
    log.info(
        "operator_command_accepted",
        command=command.type,
        tenant_id=command.tenant_id,
        operator=operator,
        recorded=recorded,
        **command.model_dump(exclude={"type", "tenant_id"}),
    )
    return AcceptedAnswer(
        command=command.type,
        tenant_id=command.tenant_id,
        operator=operator,
        recorded=recorded,
        see=f"/api/v1/budget/{quote(command.tenant_id, safe='')}",
    )
