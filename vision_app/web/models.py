"""What the API takes and answers, as pydantic models. The views say which requests exist.

Optional fields are null rather than absent. Every answer carries the request's `trace_id`; `json_response` fills it in.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

Id = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00]*$")]
Tokens = Annotated[int, Field(ge=0)]
MAX_LIMIT = 10**15


def _in_utc(at: datetime) -> datetime:
    """A time without an offset is UTC. An offset may lead to a year that Python or Postgres' driver refuses."""
    try:
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except OverflowError:
        raise ValueError("in UTC the time must lie in the years 1 to 9999") from None


def _written(at: object) -> object:
    """Refuse a bare number: 2026 would be read as seconds since 1970."""
    if isinstance(at, str) and at.strip().lstrip("+-").replace(".", "", 1).isdigit():
        raise ValueError("give a time as in 2026-11-22T10:00:00Z")
    return at


def _read(at: object) -> object:
    """The time that a text of JSON names: bodies are checked strictly, and a text is no time there."""
    try:
        return datetime.fromisoformat(at.strip().upper()) if isinstance(at, str) else at
    except ValueError:
        raise ValueError("give a time as in 2026-11-22T10:00:00Z") from None


Time = Annotated[datetime, BeforeValidator(_written), AfterValidator(_in_utc)]
"""A time of a query; without an offset it is UTC."""
BodyTime = Annotated[datetime, BeforeValidator(_read), AfterValidator(_in_utc)]
"""A time of a body, where JSON has only texts for it."""


class Answer(BaseModel):
    """Base of every successful answer."""

    trace_id: str = ""


class ErrorBody(BaseModel):
    code: str = Field(description="for programs; stable")
    message: str = Field(description="for people; says what to do next")
    details: dict[str, Any] = Field(default_factory=dict)


class ErrorAnswer(Answer):
    """Problem details after RFC 9457; `error` repeats them for callers of before."""

    type: str = Field(description="urn:vision:error:<code>")
    title: str
    status: int
    detail: str = Field(description="as error.message")
    error: ErrorBody


# --- health -----------------------------------------------------------------------------------------------------------


class AliveAnswer(Answer):
    status: Literal["alive", "blocked"] = Field(description="blocked: only on the metrics port, with 503")


class WorkPlace(BaseModel):
    place: str = Field(description="topic-partition-offset, stream-id, or the stage itself")
    topic: str
    partition: int | None = None
    offset: str | None = None


class StalledWork(WorkPlace):
    """Work that waits for nothing known for longer than VISION_STALL_SECONDS."""

    stage: str
    since: datetime
    reason: str
    remedy: str


class OldestWork(WorkPlace):
    stage: str
    since: datetime
    waits_for: str | None = Field(None, description="null while it waits for nothing")


class ProcessState(BaseModel):
    """One process of a worker with several (VISION_WORKERS)."""

    name: str
    pid: int | None
    state: Literal["ready", "not_ready", "not_answering", "down"] = Field(
        description="not_answering: it runs, and may be frozen; down: it ended, and is started again"
    )
    reason: str | None = None
    restarts: int = Field(description="since the supervisor's start")


class ReadyAnswer(Answer):
    status: Literal["ready", "partly_ready", "not_ready"] = Field(
        description="partly_ready: of several processes (VISION_WORKERS) some are ready; only 200 is ready"
    )
    reason: str | None = None
    waiting_for: dict[str, str] = Field(description="services that hold something back, and why")
    stalls: list[StalledWork] = Field(default_factory=list, description="what stands still, the longest first")
    oldest: list[OldestWork] = Field(default_factory=list, description="of each stage: the oldest work it holds")
    processes: list[ProcessState] = Field(default_factory=list, description="of a worker with several")


# --- vision -----------------------------------------------------------------------------------------------------------


class TenantQuery(BaseModel):
    tenant_id: Id | None = Field(None, description="needed where several tenants have the same id")


class PostPath(BaseModel):
    post_id: Id


class MediaPath(BaseModel):
    sha256: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00]*$")]


class PostsQuery(TenantQuery):
    channel_id: Id | None = None
    has_meme: bool | None = Field(None, description="whether any of the post's pictures is a meme")
    provider: Literal["gigachat", "ocr_fallback", "ocr"] | None = Field(None, description="`ocr` is `ocr_fallback`")
    analyzed_after: Time | None = Field(None, description="exclusive; without an offset it is UTC")
    page: int = Field(1, ge=1, le=1_000_000)
    page_size: int = Field(50, ge=1, le=100)


class Classification(BaseModel):
    model_config = ConfigDict(extra="allow")

    type: str | None = None
    confidence: float | None = None
    tags: list[str] = Field(default_factory=list)
    is_meme: bool | None = None
    description: str | None = None


class PostAnswer(Answer):
    """The result of a post. The vision fields are those of its first analyzed medium; `enrichments` has all."""

    post_id: str
    tenant_id: str
    channel_id: str | None
    status: str = Field(description="ok, partial, skipped or error")
    analyzed_at: datetime | None
    provider: str | None
    simulated: bool = Field(description="the answer came from the built-in simulator, not from GigaChat")
    model: str | None
    tokens_used: int | None
    classification: Classification | None
    ocr_text: str | None
    is_meme: bool | None
    media_count: int
    s3_vision_keys: list[str]
    s3_media_keys: list[str]
    expired: bool = Field(description="a picture or an answer of the post is no longer kept; the result above still is")
    expired_keys: list[str] = Field(description="which of the keys lead nowhere any more")
    vision_version: str | None
    features_hash: str | None
    post_trace_id: str | None
    in_work_since: datetime | None
    enrichments: list[dict[str, Any]]
    times: dict[str, Any]


class LiveMedium(BaseModel):
    sha256: str
    status: str
    dispatch: int
    dispatched_ms: int


class LivePostAnswer(Answer):
    """A post in work: what each of its media waits for."""

    post_id: str
    tenant_id: str
    status: Literal["in_work", "completed"]
    opened_ms: int
    completed_ms: int | None
    post_trace_id: str
    media: list[LiveMedium]


class PostListAnswer(Answer):
    """A page of analyzed posts, newest first."""

    results: list[PostAnswer]
    total: int
    page: int
    page_size: int


class MediaAnswer(Answer):
    """A medium of a tenant and its last analysis; nulls if it was never analyzed."""

    sha256: str
    tenant_id: str
    s3_key: str
    mime_type: str
    size_bytes: int
    expired: bool = Field(description="the picture itself is no longer kept; what was seen on it still is")
    expired_at: datetime | None
    vision_classification: str | None
    is_meme: bool | None
    description: str | None
    provider: str | None
    analyzed_at: datetime | None
    posts: list[str] = Field(description="the newest hundred posts that list it")


class ByProvider(BaseModel):
    gigachat: int
    ocr: int
    cached: int = Field(description="answered without a call, from what was known of the same picture")


class TokenStats(BaseModel):
    total: int
    average: float = Field(description="per analyzed post")


class StatsAnswer(Answer):
    total_analyzed: int
    memes_count: int
    by_provider: ByProvider
    tokens: TokenStats
    by_type: dict[str, int]


# --- budget -----------------------------------------------------------------------------------------------------------


class TenantPath(BaseModel):
    tenant: Id


class ParkedPath(TenantPath):
    number: int = Field(ge=0, le=2**53)


class ParkedQuery(BaseModel):
    start: int = Field(0, ge=0, le=2**53, description="the first number to show")
    count: int = Field(100, ge=1, le=1000, description="tasks that are looked at")
    post_id: Id | None = Field(None, description="only this post's, of the tasks that are looked at")


class OperatorHeaders(BaseModel):
    x_operator: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")] = Field(
        "api", alias="x-operator", description="who does this; kept in the log and in Postgres"
    )


ReplayReason = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00]*$")]


class LimitBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(strict=True, ge=0, le=MAX_LIMIT)] | None = Field(
        description="tokens per UTC day; null for the configured default"
    )


class BudgetAnswer(Answer):
    """A tenant's ledger, in tokens. After midnight it shows the new day. An unknown tenant has spent nothing."""

    tenant_id: str
    day: str
    limit: Tokens
    default_limit: bool = Field(description="no operator has set another")
    spent: Tokens
    reserved: Tokens
    remaining: Tokens
    waiting: int = Field(description="tasks that wait for money or for a slot")
    open_grants: int
    paused: bool
    loaded: bool = Field(
        description="false until Postgres has said what was spent before; nothing is granted till then"
    )
    reset_at: datetime
    known: bool = Field(description="false if the tenant has no ledger yet")
    note: str | None = Field(description="why these numbers are not to be relied on; null if they are")


class ParkedTask(BaseModel):
    number: int
    post_id: str
    trace_id: str
    sha256: str
    estimate: Tokens
    purpose: str
    ocr_allowed: bool
    since_ms: int
    announced: bool = Field(description="its post was told of the exhausted budget")


class ParkedTaskAnswer(Answer):
    tenant_id: str
    task: ParkedTask


class ParkedAnswer(Answer):
    tenant_id: str
    waiting: int
    tasks: list[ParkedTask]
    next_start: int | None = Field(description="where the next page starts; null at the end")
    granted: list[str] = Field(default_factory=list, description="posts whose tasks are granted and not settled yet")


class AcceptedAnswer(Answer):
    """The command is on its way to the budget actor; look at `see` for its effect."""

    accepted: Literal[True] = True
    command: str
    tenant_id: str
    operator: str
    recorded: bool = Field(description="whether Postgres has the action; false where it may be done without")
    see: str
