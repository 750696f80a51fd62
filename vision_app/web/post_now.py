"""Where a post is now: in which stage each of its pictures is, since when, and what it waits for. Nothing is kept.

Three sources: the worker that owns the post (what is open), the worker that owns its tenant's ledger (what waits for
money or a slot), and every worker's stages (what they have in hand). A picture that nobody has in hand is a record in
Kafka between two stages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import quote

from aiohttp import web

from vision_app.domain.posts import PostRow
from vision_app.messages import key_of
from vision_app.streams.faust_seams import watch_of

from .auth import tenant_asked
from .errors import ApiError, json_response
from .models import LiveMedium, LivePostAnswer, ParkedQuery, ParkedTask, PostPath, TenantQuery
from .operation import operation
from .owner import ask_owner, ask_worker, other_workers, unclear
from .page import Page
from .parked import parked
from .post_models import HeldRecord, MediumNow, OwnPostAnswer, PlaceNow, PostNowAnswer
from .posts import live_state, tenant_of_post
from .worker import ServedWorker

Found = TypeVar("Found")

PARKED_LOOKED_AT = 1000
"""Tasks of the tenant's queue, the first ones, in which those of the post are looked for."""
_STEPS: Mapping[str, PlaceNow] = {"turn": "turn", "call": "call"}


class PostNowView(Page):
    """GET /api/v1/posts/{post_id}/live: where a post and each of its pictures are now, over all workers.

    Needs no store, so it answers also while Postgres or S3 is away. `GET /api/v1/changes` with `post_id` tells of every
    change of it.
    """

    @operation("Where a post is now", path=PostPath, query=TenantQuery, answers={200: PostNowAnswer}, errors=(503,))
    async def get(self, request: web.Request, path: PostPath, query: TenantQuery) -> web.Response:
        tenant_id = tenant_of_post(self.app, request, query.tenant_id)
        return json_response(request, await post_now(self.app, request, tenant_id, path.post_id))


class OwnPostView(Page):
    """GET /api/v1/posts/{post_id}/live/own: what the worker that is asked knows of a post. Workers ask each other so.

    Only the state in the worker that owns the post counts; another one may have an old copy.
    """

    @operation("What one worker knows of a post", path=PostPath, query=TenantQuery, answers={200: OwnPostAnswer})
    async def get(self, request: web.Request, path: PostPath, query: TenantQuery) -> web.Response:
        tenant_id = tenant_of_post(self.app, request, query.tenant_id)
        return json_response(request, _own(self.app, tenant_id, path.post_id))


async def live_post(app: ServedWorker, request: web.Request, tenant_id: str, post_id: str) -> LivePostAnswer | None:
    """A post's state in the worker that owns it; None if it holds none. Raises ApiError 503 while that is unknown."""
    url = _own_url(tenant_id, post_id)
    try:
        answer = await ask_owner(app, app.posts, key_of(tenant_id, post_id), request, url, OwnPostAnswer)
    except ApiError as fault:
        raise unclear() from fault  # also of a worker of an older version, which does not know this page
    return (answer or _own(app, tenant_id, post_id)).state


async def post_now(app: ServedWorker, request: web.Request, tenant_id: str, post_id: str) -> PostNowAnswer:
    """Where the post is now. Raises ApiError 404 for another tenant. A worker or owner that is silent is named."""
    tenant_asked(request, tenant_id)
    live, tasks, (held, silent) = await asyncio.gather(
        _or_error(live_post(app, request, tenant_id, post_id)),
        _or_error(_parked_of(app, request, tenant_id, post_id)),
        _held(app, request, tenant_id, post_id),
    )
    unknown = [*silent, *(["its owner"] if isinstance(live, ApiError) else [])]
    unknown += ["its tenant's ledger"] if isinstance(tasks, ApiError) else []
    state = None if isinstance(live, ApiError) else live
    waiting, granted = ([], False) if isinstance(tasks, ApiError) else tasks
    return PostNowAnswer(
        tenant_id=tenant_id,
        post_id=post_id,
        status="not_open" if state is None else state.status,
        opened_at=_at(state.opened_ms) if state else None,
        media=[medium_now(medium, waiting, granted, held) for medium in _distinct(state.media if state else [])],
        held=held,
        unknown=unknown,
    )


def medium_now(
    medium: LiveMedium, waiting: Sequence[ParkedTask], granted: bool, held: Sequence[HeldRecord]
) -> MediumNow:
    """Where a picture is. Pure. `waiting`, `held`: of its post; `granted`: whether the post has an open grant."""

    def found(place: PlaceNow, since: datetime | None, waits_for: str | None = None) -> MediumNow:
        return MediumNow(sha256=medium.sha256, status=medium.status, place=place, since=since, waits_for=waits_for)

    mine = [one for one in held if one.sha256 == medium.sha256]
    for one in mine:
        if one.stage == "analysis":
            return found(_STEPS.get(one.step, "decoding"), one.since, one.waits_for)
    task = next((task for task in waiting if task.sha256 == medium.sha256), None)
    if task is not None:
        return found("parked", _at(task.since_ms), "its tenant's budget or a slot")
    if medium.status != "in_work":
        return found("ended", None)
    for one in mine:
        if one.stage == "media":
            return found("look_up", one.since, one.waits_for)
    return found("granted" if granted else "between", _at(medium.dispatched_ms))


async def _parked_of(
    app: ServedWorker, request: web.Request, tenant_id: str, post_id: str
) -> tuple[list[ParkedTask], bool]:
    """The post's tasks among the first that wait, and whether it has an open grant."""
    query = ParkedQuery(count=PARKED_LOOKED_AT, post_id=post_id)
    answer = await parked(app, request, tenant_id, query)
    return answer.tasks, post_id in answer.granted


async def _held(
    app: ServedWorker, request: web.Request, tenant_id: str, post_id: str
) -> tuple[list[HeldRecord], list[str]]:
    """What all workers have in hand of the post, and those that do not answer."""
    others, url = other_workers(app), _own_url(tenant_id, post_id)
    answers = await asyncio.gather(*(_or_error(ask_worker(app, one, request, url, OwnPostAnswer)) for one in others))
    found, silent = list(_own(app, tenant_id, post_id).held), list[str]()
    for worker, answer in zip(others, answers, strict=True):
        if isinstance(answer, ApiError):
            silent.append(f"{worker.host}:{worker.port}")
        else:
            found += answer.held
    return sorted(found, key=lambda one: one.since), silent


def _own_url(tenant_id: str, post_id: str) -> str:
    return f"/api/v1/posts/{quote(post_id, safe='')}/live/own?tenant_id={quote(tenant_id, safe='')}"


def _own(app: ServedWorker, tenant_id: str, post_id: str) -> OwnPostAnswer:
    """What this worker has in its table, and in hand, of the post."""
    row: PostRow | None = app.posts.row(key_of(tenant_id, post_id))
    return OwnPostAnswer(
        state=None if row is None else live_state(row),
        held=[
            HeldRecord(
                stage=one.stage,
                sha256=one.sha256 or None,
                since=datetime.fromtimestamp(one.since, UTC),
                step=one.step,
                waits_for=one.waits_for,
            )
            for one in watch_of(app).held_of(tenant_id, post_id)
        ],
    )


def _distinct(media: Sequence[LiveMedium]) -> list[LiveMedium]:
    return list({medium.sha256: medium for medium in media}.values())


def _at(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


async def _or_error(asked: Awaitable[Found]) -> Found | ApiError:
    """The answer, or the error of an owner or a worker that is unknown or silent."""
    try:
        return await asked
    except ApiError as fault:
        return fault
