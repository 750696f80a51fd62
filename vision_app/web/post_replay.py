"""POST /api/v1/posts/{post_id}/replay: sends a post again, or says what that would do and cost at most."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Literal

import structlog
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from vision_app.clients.faults import cause_of
from vision_app.operations.connections import FAULTS, OperationError
from vision_app.operations.costs import Prices
from vision_app.operations.post_replay import PostReplayPlan, carry_out_replay, plan_replay
from vision_app.stores.post_actions import PostReplays
from vision_app.telemetry import metrics
from vision_app.topics import UPLOADED

from .auth import operator_for
from .dead_letter_models import ReplayCost
from .dead_letters import PAYLOAD_CHARS, readable
from .errors import ApiError, json_response
from .models import Answer, Id, OperatorHeaders, PostPath, ReplayReason, Tokens
from .operation import operation
from .page import Page
from .posts import find_row
from .worker import ServedWorker

log = structlog.get_logger(__name__)

REPLAY_SECONDS = 25.0
"""For looking at the answers and objects of all pictures, and for the sending."""


class PostReplayBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tenant_id: Id | None = Field(None, description="needed where several tenants have such a post")
    force: bool = Field(
        False,
        description="also ask again about pictures that are in work, deferred, or answered badly (refused, partial, by "
        "OCR): they are paid for again; a good stored answer stays free",
    )
    dry_run: bool = Field(True, description="say what would happen; change nothing")
    tokens_at_most: Tokens | None = Field(
        None, description="do nothing, and answer 409, if it may cost more; take it from the preview"
    )
    reason: ReplayReason | None = Field(None, description="why; kept in Postgres")


class ReplayedMedium(BaseModel):
    sha256: str
    status: str = Field(description="as the post's row has it now")
    effect: Literal["free", "asked", "paid_again", "no_object"] = Field(
        description="free: its stored answer is used; asked: it is asked about unless the policy skips it; paid_again: "
        "the same, and it was paid for before; no_object: skipped, free"
    )
    tokens_before: int = Field(description="billed for it so far")
    tokens_at_most: int


class PostReplayAnswer(Answer):
    """What is sent, and what it may cost at most. A finished call is not paid again while its answer is stored."""

    dry_run: bool
    tenant_id: str
    post_id: str
    status: str = Field(description="of the post's row now; while it is in_work, a replay without force adds nothing")
    force: bool
    media: list[ReplayedMedium] = Field(description="each picture once")
    cost: ReplayCost
    paid_again: int = Field(description="pictures that were paid for before and may be paid for again")
    topic: str
    key: str
    payload: str = Field(description="the event that is sent, as indented JSON; cut to 64 kB")
    payload_cut: bool
    sent: str | None = Field(description="the new record as topic-partition-offset; null in a dry run")


class PostReplayView(Page):
    """POST /api/v1/posts/{post_id}/replay: the post's event, from its row, goes through policy, budget and analysis.

    Needs a token for all tenants. Without `force` only pictures without an answer of the current version are asked
    about.
    """

    @operation(
        "Send a post again",
        path=PostPath,
        headers=OperatorHeaders,
        body=PostReplayBody,
        answers={200: PostReplayAnswer},
        errors=(403, 404, 409, 503),
        seconds=REPLAY_SECONDS + 5,
    )
    async def post(
        self, request: web.Request, path: PostPath, headers: OperatorHeaders, body: PostReplayBody
    ) -> web.Response:
        return json_response(request, await replay_post(self.app, request, path.post_id, body, headers.x_operator))


async def replay_post(
    app: ServedWorker, request: web.Request, post_id: str, body: PostReplayBody, operator: str
) -> PostReplayAnswer:
    """Plan the replay of a post and, unless it is a dry run, carry it out.

    Raises ApiError 403 for a tenant's token, 404 without a row, 409 if it cannot be replayed or costs more than was
    said, 503 if a service is away.
    """
    operator_for(request, body.tenant_id)
    row = await find_row(app, request, post_id, body.tenant_id)
    if row is None:
        text = f"there is no row of post {post_id}; `vision replay --post ID --since 7d` looks for its event in Kafka"
        raise ApiError(404, "not_found", text)
    sent: str | None = None
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_services())
        plan = await _plan(Prices(app.settings, app.s3), row, force=body.force)
        if not body.dry_run:
            most = body.tokens_at_most
            if most is not None and plan.cost.tokens_at_most > most:
                text = (
                    f"it may cost {plan.cost.tokens_at_most} tokens by now, more than {most}; look at the preview again"
                )
                raise ApiError(409, "costs_more", text, tokens_at_most=plan.cost.tokens_at_most)
            pool = await stack.enter_async_context(app.readers.pool_for_page())
            sender = await stack.enter_async_context(app.kafka_sender(app.settings))
            sent = await carry_out_replay(plan, sender, PostReplays(pool), operator, body.reason)
            log.info(
                "post_replayed",
                operator=operator,
                tenant_id=row["tenant_id"],
                post_id=post_id,
                force=body.force,
                tokens_at_most=plan.cost.tokens_at_most,
                place=sent,
            )
    return _answer(plan, row["status"], body.dry_run, sent)


async def _plan(prices: Prices, row: dict[str, object], *, force: bool) -> PostReplayPlan:
    try:
        return await plan_replay(prices, row, force=force)
    except OperationError as fault:
        raise ApiError(409, "cannot_replay", str(fault)) from fault


@asynccontextmanager
async def _services() -> AsyncIterator[None]:
    """While S3 or Kafka does not answer, a replay answers 503. A post that was sent meanwhile is sent; that is safe."""
    try:
        async with asyncio.timeout(REPLAY_SECONDS):
            yield
    except (*FAULTS, TimeoutError) as fault:
        metrics.RETRIES.labels(stage="kafka").inc()
        log.warning("post_not_replayed", error=cause_of(fault))
        text = f"a service does not answer ({cause_of(fault)}); see `vision doctor`, then repeat the request"
        raise ApiError(503, "service_unavailable", text) from fault


def _answer(plan: PostReplayPlan, status: str, dry_run: bool, sent: str | None) -> PostReplayAnswer:
    event, cost = plan.one.event, plan.cost
    payload, _ = readable(plan.one.value)
    return PostReplayAnswer(
        dry_run=dry_run,
        tenant_id=event.tenant_id,
        post_id=event.post_id,
        status=status,
        force=plan.force,
        media=[
            ReplayedMedium(
                sha256=one.sha256,
                status=one.status,
                effect=one.effect,
                tokens_before=one.tokens_before,
                tokens_at_most=one.cost.tokens_at_most,
            )
            for one in plan.media
        ],
        cost=ReplayCost(asked=cost.asked, tokens_at_most=cost.tokens_at_most, cached=cost.cached, gone=cost.gone),
        paid_again=plan.paid_again,
        topic=UPLOADED.name,
        key=(plan.one.key or b"").decode(errors="replace"),
        payload=payload[:PAYLOAD_CHARS],
        payload_cut=len(payload) > PAYLOAD_CHARS,
        sent=sent,
    )
