"""Collects a run's results from all stores: the input of `checks` and `report`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import orjson

from vision_app.domain.calls import CallRecord, StoredAnswer
from vision_app.operations import neighbours
from vision_app.operations.backlog import Backlog
from vision_app.operations.neighbours import Announced
from vision_app.stores.answers import MAX_STORED_BYTES
from vision_app.stores.keys import VISION_PREFIX, post_key, segment
from vision_app.stores.posts import Row
from vision_app.stores.s3 import ObjectMissing, S3Store

from .plan import PlannedPost, tenants
from .publish import Published
from .services import DemoServices


@dataclass(frozen=True)
class Evidence:
    """All results of one post. `images`: its pictures in the graph by sha256; None when the graph is off."""

    published: Published
    announced: Sequence[Announced]
    row: Row | None
    api_status: int
    api: Mapping[str, Any]
    document: Mapping[str, Any] | None
    answers: Mapping[str, StoredAnswer]  # by S3 key, only existing ones
    images: Mapping[str, Mapping[str, Any]] | None

    @property
    def post(self) -> PlannedPost:
        return self.published.post

    @property
    def media(self) -> Sequence[Mapping[str, Any]]:
        """One item per listed medium, from the row's media."""
        return list((self.row or {}).get("data", {}).get("media", ()))

    @property
    def enrichments(self) -> Sequence[Mapping[str, Any]]:
        """One item per listed medium, in the form of the event and the API."""
        return list((self.row or {}).get("data", {}).get("enrichments", ()))


@dataclass(frozen=True)
class TenantBalance:
    """What a tenant spent: its ledger, the records of its calls, and the simulator's bill for them (None if real)."""

    tenant_id: str
    budget: Mapping[str, Any]
    calls: Sequence[CallRecord]
    bill: Sequence[Mapping[str, Any]] | None

    @property
    def cut_off(self) -> int:
        """Calls that a crash cut off: charged at their estimate, and made again."""
        return sum(call.state == "started" for call in self.calls)

    @property
    def billed_tokens(self) -> int:
        if self.bill is None:
            return sum(call.tokens or 0 for call in self.calls)
        return sum(int(entry["total_tokens"]) for entry in self.bill)

    @property
    def billed_calls(self) -> int:
        return len(self.calls) if self.bill is None else len(self.bill)


@dataclass(frozen=True)
class Findings:
    """Everything about one run."""

    posts: Sequence[Evidence]
    accounts: Sequence[TenantBalance]
    backlog: Backlog
    simulated: bool
    killed: str | None = None  # the worker that was killed on purpose
    killed_restarts: int = 0  # how often the supervisor has restarted it since
    seconds: float = field(default=0.0)  # from publishing to the last announcement


async def collect_posts(
    services: DemoServices, sent: Sequence[Published], since: str, deadline: float
) -> list[Evidence]:
    """Look every post up in every store."""
    ids = [published.post.post_id for published in sent]
    announced = await neighbours.announcements_since(services.redis, services.settings, ids, since)
    looked = (_evidence(services, published, announced[published.post.post_id], deadline) for published in sent)
    return list(await asyncio.gather(*looked))


async def _evidence(
    services: DemoServices, published: Published, announced: Sequence[Announced], deadline: float
) -> Evidence:
    post = published.post
    rows = await services.posts.get(post.post_id, post.tenant_id)
    row = rows[0] if rows else None
    status, body = await services.api.get(api_path(post), deadline)
    return Evidence(
        published=published,
        announced=announced,
        row=row,
        api_status=status,
        api=body,
        document=await _json(services.s3, post_key(post.tenant_id, post.post_id)),
        answers=await _answers(services.s3, row["s3_vision_keys"] if row else ()),
        images=await _images(services, post),
    )


def api_path(post: PlannedPost) -> str:
    """The API's path of a post."""
    return f"/api/v1/vision/posts/{quote(post.post_id, safe='')}?tenant_id={quote(post.tenant_id, safe='')}"


async def _answers(s3: S3Store, keys: Sequence[str]) -> dict[str, StoredAnswer]:
    found = {key: await _json(s3, key) for key in keys}
    return {key: StoredAnswer.model_validate(stored) for key, stored in found.items() if stored}


async def _images(services: DemoServices, post: PlannedPost) -> dict[str, Mapping[str, Any]] | None:
    if services.graph is None:
        return None
    return {image["sha256"]: image for image in await services.graph.images(post.tenant_id, post.post_id)}


async def _json(s3: S3Store, key: str) -> dict[str, Any] | None:
    try:
        return dict(orjson.loads(await s3.read(key, MAX_STORED_BYTES)))
    except ObjectMissing:
        return None


async def collect_accounts(
    services: DemoServices, posts: Sequence[PlannedPost], deadline: float
) -> list[TenantBalance]:
    """What each tenant of the run has spent, according to ledger, call records and bill."""
    entries = (await services.simulator.bill()).get("entries", []) if services.simulator else None
    return [await _account(services, tenant, entries, deadline) for tenant in tenants(posts)]


async def _account(
    services: DemoServices, tenant: str, entries: Sequence[Mapping[str, Any]] | None, deadline: float
) -> TenantBalance:
    _, budget = await services.api.get(f"/api/v1/budget/{quote(tenant, safe='')}", deadline)
    calls = await _calls(services.s3, tenant)
    grants = {call.grant_id for call in calls}
    bill = None
    if entries is not None:  # the grant is sent as X-Request-ID
        bill = [entry for entry in entries if entry["billed"] and entry["client_request_id"] in grants]
    return TenantBalance(tenant, budget, calls, bill)


async def _calls(s3: S3Store, tenant_id: str) -> list[CallRecord]:
    heads = [head async for head in s3.list(f"{VISION_PREFIX}{segment(tenant_id)}/.calls/")]
    records = [await _json(s3, head.key) for head in heads]
    return [CallRecord.model_validate(record) for record in records if record]
