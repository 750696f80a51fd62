"""What the routes below /api/v1/posts take and answer: posts of every status, and the timeline of one."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from vision_app.operations.timeline import Cause, Stage
from vision_app.stores.post_search import FoundStatus

from .cursors import PostCursor
from .models import Answer, Id, LivePostAnswer, TenantQuery, Time

MAX_PAGE = 100

Words = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00]*$")]


class PostSearchQuery(TenantQuery):
    tenant_id: Id | None = Field(None, description="a token for all tenants may name one; without it, all")
    channel_id: Id | None = Field(None, description="the channel of the post's event")
    status: FoundStatus | None = Field(
        None,
        description="`deferred`: a medium waits for its tenant's budget; `in_work`: it is looked at now, or again; "
        "`skipped`: without deferred posts",
    )
    reason: Id | None = Field(
        None,
        description="why a medium of the post has no analysis: `s3_missing`, `budget`, `policy`, a rule of the policy "
        "(`unsupported_mime`), …",
    )
    kind: Id | None = Field(None, description="classification of any medium: photo, meme, document, …")
    label: Id | None = Field(None, description="a label of any medium, as it is written")
    after: Time | None = Field(None, description="`updated_at` is later; without an offset it is UTC")
    before: Time | None = Field(None, description="`updated_at` is earlier; without an offset it is UTC")
    q: Words | None = Field(
        None,
        description="words of descriptions and of texts on the pictures, in any grammatical form, Russian or English; "
        '`"two words"`: one after the other; `or`; `-word`: without it',
    )
    cursor: PostCursor | None = Field(None, description="`next_cursor` of the page before")
    limit: int = Field(50, ge=1, le=MAX_PAGE, description="posts of a page")


class ListedMedium(BaseModel):
    sha256: str
    mime_type: str
    size_bytes: int
    status: str = Field(description="in_work, analyzed, partial, skipped, failed or deferred")
    kind: str | None = Field(description="its classification; null without an analysis")
    reason: str | None = Field(description="why it has no analysis; null if it has one")
    rule: str | None = Field(description="the policy's rule that skipped it")
    deferred_until: datetime | None = Field(description="when the budget lets it go on")


class ListedPost(BaseModel):
    """A post of any status. `GET /api/v1/vision/posts/{post_id}` has all of it."""

    tenant_id: str
    post_id: str
    channel_id: str | None
    post_trace_id: str | None
    status: FoundStatus = Field(description="`deferred`: nothing is analyzed yet, and a medium waits for its budget")
    in_work_since: datetime | None = Field(description="also set while a finished post is looked at again")
    deferred_until: datetime | None = Field(description="of the medium that waits longest; null if none does")
    reasons: list[str] = Field(description="why media have no analysis, each reason once; the policy's as its rule")
    kind: str | None = Field(description="classification of the first analyzed medium")
    labels: list[str]
    description: str | None = Field(description="of all media, one line each, cut to 500 characters")
    tokens_used: int
    error: str | None
    picture_count: int = Field(description="media listed by the post")
    sha256: list[str] = Field(description="the listed media, each once, in order")
    media: list[ListedMedium]
    analyzed_at: datetime | None
    updated_at: datetime


class PostSearchAnswer(Answer):
    """A page of posts, the one changed last first."""

    posts: list[ListedPost]
    next_cursor: str | None = Field(description="`cursor` of the next page; null at the end")


PlaceNow = Literal["look_up", "parked", "granted", "decoding", "turn", "call", "between", "ended"]


class HeldRecord(BaseModel):
    """A record about the post that a worker has in hand now."""

    stage: str = Field(description="policy, posts, media, budget, analysis, sink-postgres, sink-s3, sink-neo4j, …")
    sha256: str | None = Field(description="of the picture it is about; null for the whole post")
    since: datetime
    step: str = Field(description="of the analysis: turn (waits at the provider's gate) or call; else empty")
    waits_for: str | None = Field(description="a service, its turn, …; null while it waits for nothing")


class MediumNow(BaseModel):
    sha256: str
    status: str = Field(description="in_work, analyzed, partial, skipped, failed or deferred")
    place: PlaceNow = Field(
        description="look_up: its answer and object are looked up; parked: it waits for its tenant's budget or a slot; "
        "granted: it may be asked about, and no worker has it in hand yet; decoding: it is read and decoded; turn: it "
        "waits for its turn at the provider; call: the provider is asked; between: on its way between two stages; "
        "ended: it has an outcome"
    )
    since: datetime | None = Field(description="when it came there; null if it has ended")
    waits_for: str | None


class OwnPostAnswer(Answer):
    """What one worker knows of a post."""

    state: LivePostAnswer | None = Field(description="from its table; null if it holds no such post")
    held: list[HeldRecord]


class PostNowAnswer(Answer):
    """Where a post and its pictures are now."""

    tenant_id: str
    post_id: str
    status: Literal["in_work", "completed", "not_open"] = Field(
        description="completed: every picture has ended, and the result is stored or about to be; not_open: no worker "
        "holds it open (it ended a day ago or longer, was not published, or is still on its way in)"
    )
    opened_at: datetime | None
    media: list[MediumNow] = Field(description="each picture once; empty while the owner is unknown")
    held: list[HeldRecord] = Field(description="what workers have in hand of it, the oldest first; also its sinks")
    unknown: list[str] = Field(description="who does not answer, so that its part is missing")


class TimelineStage(BaseModel):
    """A stretch of a post's way. Times are those of the workers' clocks; the first one is the producer's."""

    stage: Stage
    started_ms: int = Field(description="milliseconds since 1970")
    duration_ms: int
    medium: str | None = Field(description="sha256 of the picture; null for the whole post")
    detail: str


class MediumExplanation(BaseModel):
    """Why a medium has no result: `cause` for programs, `text` for people."""

    cause: Cause
    text: str
    next_step: str | None
    rule: str | None = Field(description="the policy's rule that skipped it")
    deferred_until: datetime | None
    budget: dict[str, int] | None = Field(
        description="tokens when it was deferred: spent and limit of its tenant's day, estimated_tokens"
    )
    dead_letter_id: str | None


class TimelineMedium(ListedMedium):
    provider: str | None
    model: str | None
    tokens_billed: int
    cached: bool | None
    explanation: MediumExplanation | None = Field(description="null if there is a result")


class TimelineAnswer(Answer):
    """A post's way, and why its media have no result."""

    tenant_id: str
    post_id: str
    post_trace_id: str | None
    status: FoundStatus
    in_work_since: datetime | None
    stages: list[TimelineStage] = Field(description="in order of their start; the last way of a post looked at again")
    total_ms: int | None = Field(description="from its publication to its last known time; null without times")
    media: list[TimelineMedium] = Field(description="as listed by the post, each picture once")
