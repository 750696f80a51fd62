"""The messages between the agents: every Kafka message as a pydantic model, tagged by `type`.

This is the contract inside the system. The outside contract (Redis streams, public events) is in `events/`; the
topics of messages are in `topics.py`. Values are one line of JSON, so that the console tools can read and produce them.
Times are milliseconds since the epoch (`*_ms`) or ISO 8601 in UTC; sizes are bytes; money is tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

Provider = Literal["gigachat", "ocr_fallback"]
Purpose = Literal["answer", "repair"]
Kind = Literal["photo", "meme", "document", "screenshot", "infographic", "other"]
Verdict = Literal["ok", "partial", "refused", "unusable"]

FORCE_HEADER = "vision-force"
"""With the value 1 on an uploaded post: ask about all media again, even if answers are known."""
REPLAY_HEADER = "vision-replay-of"
"""Names the record or dead letter from which a record was made. Such a record is a new publication."""

TRACEPARENT = re.compile("00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""W3C trace context, version 00: trace id, span id, flags. Ids of zeros only are invalid."""


def _traceparent(value: Any) -> str | None:
    """The value if it is a valid `traceparent`. Else None: a producer's mistake there must not hold up a post."""
    return value if isinstance(value, str) and TRACEPARENT.fullmatch(value) else None


def _is_none(value: Any) -> bool:
    return value is None


Traceparent = Annotated[str | None, BeforeValidator(_traceparent), Field(exclude_if=_is_none)]
"""Left out of the JSON where there is none: most producers send none."""

Times = dict[str, int]
"""Hop name to epoch milliseconds: published, relayed, opened, dispatched, checked, granted, called, answered."""


class Message(BaseModel):
    """Base of all messages: immutable, and tolerant of fields that a newer version added."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    def encode(self) -> bytes:
        return self.model_dump_json().encode()


def key_of(*parts: str) -> bytes:
    """The Kafka key of an entity. Its parts are percent-encoded, so a tenant `a:b` cannot collide with another key."""
    return ":".join(quote(part, safe="") for part in parts).encode()


# --- what is looked at ------------------------------------------------------------------------------------------------


class Medium(BaseModel):
    """One picture or document of a post, as the producer listed it. Unknown fields are kept."""

    model_config = ConfigDict(extra="allow", frozen=True)

    sha256: str = Field(min_length=1, max_length=128)
    s3_key: str = ""
    mime_type: str = "application/octet-stream"
    size_bytes: int = Field(0, ge=0)
    telegram_file_id: str | None = None
    position: int | None = None
    role: str | None = None


class Uploaded(BaseModel):
    """A post whose media are in S3: the input event in its canonical form. Unknown fields are kept."""

    model_config = ConfigDict(extra="allow", frozen=True)

    event_type: Literal["posts.vision.uploaded"] = "posts.vision.uploaded"
    schema_version: Literal["1.0"] = "1.0"
    trace_id: str
    occurred_at: datetime
    idempotency_key: str
    tenant_id: str = Field(min_length=1, max_length=256)
    post_id: str = Field(min_length=1, max_length=256)
    channel_id: str | None = None
    uploaded_at: datetime | None = None
    requires_vision: bool = True
    traceparent: Traceparent = None  # the producer's, W3C trace context
    media_files: list[Medium]

    def encode(self) -> bytes:
        return self.model_dump_json(exclude_none=True).encode()

    @property
    def key(self) -> bytes:
        return key_of(self.tenant_id, self.post_id)


# --- what was seen ----------------------------------------------------------------------------------------------------


class Ocr(Message):
    text: str
    engine: str
    confidence: float | None = Field(None, ge=0, le=1)


class Analysis(Message):
    """What is on a picture, after repair and validation (`domain/answer.py`)."""

    classification: Kind
    description: str
    is_meme: bool = False
    labels: list[str] = Field(default_factory=list, max_length=20)
    labels_from_text: list[str] = Field(default_factory=list, max_length=20)  # those that only its text supports
    objects: list[str] = Field(default_factory=list, max_length=10)
    scene: str | None = None
    ocr: Ocr | None = None
    nsfw_score: float | None = Field(None, ge=0, le=1)
    aesthetic_score: float | None = Field(None, ge=0, le=1)
    dominant_colors: list[str] = Field(default_factory=list, max_length=5)
    context: dict[str, Any] = Field(default_factory=dict)
    confidence: float | None = Field(None, ge=0, le=1)


class Answer(Message):
    """An analysis and where it came from. `tokens` is its cost when it was made, also if later posts reuse it."""

    verdict: Verdict
    analysis: Analysis | None  # None only when the verdict is refused or unusable
    provider: Provider
    model: str
    prompt_version: str
    vision_version: str
    features_hash: str | None = None
    tokens: int = Field(ge=0)
    usage: dict[str, int] = Field(default_factory=dict)
    finish_reason: str | None = None
    analyzed_at: datetime
    duration_ms: int = Field(ge=0)
    simulated: bool = False
    faults: list[str] = Field(default_factory=list)  # what the repair had to mend or drop


class Analyzed(Message):
    kind: Literal["analyzed"] = "analyzed"
    answer: Answer
    s3_key: str
    cached: bool
    tokens_billed: int = Field(ge=0)  # what this post was charged: 0 for a cached answer


class Skipped(Message):
    kind: Literal["skipped"] = "skipped"
    reason: str
    details: dict[str, Any] = Field(default_factory=dict)


class Failed(Message):
    kind: Literal["failed"] = "failed"
    reason: str
    details: dict[str, Any] = Field(default_factory=dict)
    dead_letter_id: str | None = None


class Deferred(Message):
    """Not analyzed now, but later, without a new publication. `retry_at` is when the budget's day ends."""

    kind: Literal["deferred"] = "deferred"
    reason: str
    retry_at: datetime
    details: dict[str, Any] = Field(default_factory=dict)


Outcome = Annotated[Analyzed | Skipped | Failed | Deferred, Field(discriminator="kind")]


# --- inbox of the posts actor: vision.posts ---------------------------------------------------------------------------


class PolicyVerdict(Message):
    """The policy's decision on one medium: analyze it, or skip it with a reason."""

    analyze: bool
    reason: str
    details: dict[str, Any] = Field(default_factory=dict)
    prompt_key: str = "default"
    ocr_allowed: bool = False


class Opened(Message):
    """A post arrived. `verdicts[i]` belongs to `event.media_files[i]`.

    `input_id` names the publication. Relaying it again after a crash keeps it; publishing or replaying again changes
    it.
    """

    type: Literal["opened"] = "opened"
    event: Uploaded
    verdicts: list[PolicyVerdict]
    input_id: str = ""
    force: bool = False
    replay: bool = False  # sent again by hand: deferred media are dispatched again, too
    times: Times = Field(default_factory=dict)


class MediaOutcome(Message):
    """The outcome of one medium of one post, temporary or final."""

    type: Literal["media_outcome"] = "media_outcome"
    tenant_id: str
    post_id: str
    trace_id: str
    sha256: str
    dispatch: int
    outcome: Outcome
    times: Times = Field(default_factory=dict)
    traceparent: Traceparent = None  # the producer's


class Forget(Message):
    """Delete the post's row: the sweeper found its completion `completed_ms` old enough. The core checks it again."""

    type: Literal["forget"] = "forget"
    tenant_id: str
    post_id: str
    completed_ms: int


class AskAgain(Message):
    """Dispatch again the media of this post that waited in a lost ledger.

    These are media dispatched before `deferred_before_ms` and deferred, or dispatched before `in_work_before_ms` and
    still without an outcome.
    """

    type: Literal["ask_again"] = "ask_again"
    tenant_id: str
    post_id: str
    deferred_before_ms: int
    in_work_before_ms: int


PostCommand = Annotated[Opened | MediaOutcome | Forget | AskAgain, Field(discriminator="type")]


# --- work: vision.media, vision.analysis ------------------------------------------------------------------------------


class MediaTask(Message):
    """One picture of one post, to be looked at. `dispatch` counts how often this post sent this picture out."""

    type: Literal["media_task"] = "media_task"
    tenant_id: str
    post_id: str
    trace_id: str
    medium: Medium
    dispatch: int = Field(ge=1)
    prompt_key: str = "default"
    ocr_allowed: bool = False
    force: bool = False
    attempt: int = Field(1, ge=1)  # calls begun for this dispatch; only cut-off calls are repeated
    times: Times = Field(default_factory=dict)
    traceparent: Traceparent = None  # the producer's

    def outcome(self, outcome: Analyzed | Skipped | Failed | Deferred, **times: int) -> MediaOutcome:
        """The answer to this task, addressed to the post that asked."""
        return MediaOutcome(
            tenant_id=self.tenant_id,
            post_id=self.post_id,
            trace_id=self.trace_id,
            sha256=self.medium.sha256,
            dispatch=self.dispatch,
            outcome=outcome,
            times={**self.times, **times},
            traceparent=self.traceparent,
        )

    def at(self, **times: int) -> MediaTask:
        return self.model_copy(update={"times": {**self.times, **times}})


class Grant(Message):
    """Permission to make one provider call (or one OCR run) for a task. `id` is never given twice."""

    type: Literal["grant"] = "grant"
    id: str
    provider: Provider
    purpose: Purpose = "answer"
    estimate: int = Field(ge=0)
    task: MediaTask
    signature: str = ""  # the ledger's, by `domain/signatures.py`; no call is made without it


# --- inbox of the budget actor: vision.budget -------------------------------------------------------------------------


class Reserve(Message):
    """May this task spend up to `estimate` tokens?"""

    type: Literal["reserve"] = "reserve"
    tenant_id: str
    task: MediaTask
    estimate: int = Field(gt=0)  # with 0 no limit would stop the call
    purpose: Purpose = "answer"


class Settle(Message):
    """The call of this grant is over and cost `tokens`. The other fields say for what; for the owner's accounts."""

    type: Literal["settle"] = "settle"
    tenant_id: str
    grant_id: str
    tokens: int = Field(ge=0)
    post_id: str | None = None
    sha256: str | None = None
    prompt_key: str | None = None


class Lost(Message):
    """The call of this grant was cut off: charge the estimate, then treat the task as a new `Reserve`."""

    type: Literal["lost"] = "lost"
    tenant_id: str
    grant_id: str
    estimate: int = Field(ge=0)
    purpose: Purpose = "answer"
    task: MediaTask


class Release(Message):
    """Nothing was spent on this grant."""

    type: Literal["release"] = "release"
    tenant_id: str
    grant_id: str


class Reset(Message):
    """An operator sets today's spending to zero."""

    type: Literal["reset"] = "reset"
    tenant_id: str


class SetLimit(Message):
    """An operator sets the tenant's daily limit; None means the configured default."""

    type: Literal["set_limit"] = "set_limit"
    tenant_id: str
    limit: int | None = Field(ge=0)


class Pause(Message):
    type: Literal["pause"] = "pause"
    tenant_id: str


class Resume(Message):
    type: Literal["resume"] = "resume"
    tenant_id: str


class Drop(Message):
    """An operator drops waiting tasks: those numbered `first` ≤ n < `before`; None means all that wait at that time."""

    type: Literal["drop"] = "drop"
    tenant_id: str
    first: int = Field(0, ge=0)
    before: int | None = Field(None, ge=0)


class Load(Message):
    """What Postgres knows of a tenant without a row: spent on `day` (UTC), the limit set last, whether it is paused."""

    type: Literal["load"] = "load"
    tenant_id: str
    day: str
    spent: int = Field(ge=0)
    limit: int | None = None
    paused: bool = False


class Wake(Message):
    """Check the tenant again: the day may have changed, or waiting tasks may go on."""

    type: Literal["wake"] = "wake"
    tenant_id: str


BudgetCommand = Annotated[
    Reserve | Settle | Lost | Release | Reset | SetLimit | Pause | Resume | Drop | Load | Wake,
    Field(discriminator="type"),
]


# --- results: vision.sink.* -------------------------------------------------------------------------------------------

PostStatus = Literal["in_work", "ok", "partial", "skipped", "error"]
"""in_work: opened; ok: all analyzed; partial: some, or with repairs; skipped: none; error: none, and some failed."""


class Emission(Message):
    """Identifies a state of a post: time (ms) and offset of the command that completed it. It only grows."""

    time_ms: int
    offset: int

    def __lt__(self, other: Emission) -> bool:
        return (self.time_ms, self.offset) < (other.time_ms, other.offset)

    def __str__(self) -> str:
        return f"{self.time_ms}-{self.offset}"


class MediumResult(Message):
    """One listed medium of a post and how it ended; `outcome` is None while it is in work."""

    medium: Medium
    outcome: Outcome | None
    dispatch: int = 0
    times: Times = Field(default_factory=dict)


class PostResult(Message):
    """The state of a post, for the sinks. `media` follows the event's list, twins included."""

    type: Literal["post_result"] = "post_result"
    emission: Emission
    status: PostStatus
    event: Uploaded
    media: list[MediumResult]
    opened_ms: int
    completed_ms: int | None = None
    times: Times = Field(default_factory=dict)

    @property
    def key(self) -> bytes:
        return self.event.key


class Charged(Message):
    """What a grant has been charged in all, in this ledger of its tenant; for the owner's accounts in Postgres."""

    type: Literal["charged"] = "charged"
    tenant_id: str
    ledger: str
    grant_id: str
    tokens: int = Field(ge=0)
    at_ms: int
    cut_off: bool = False  # charged at its estimate, since its call was cut off
    post_id: str | None = None
    sha256: str | None = None
    prompt_key: str | None = None


ForPostgres = Annotated[PostResult | Charged, Field(discriminator="type")]


# --- what could not be processed: vision.dlq --------------------------------------------------------------------------


class DeadLetter(Message):
    """A message that could not be processed, whole. Exactly one of `value` and `value_base64` is set."""

    type: Literal["dead_letter"] = "dead_letter"
    id: str
    origin: str  # where a replay sends it: the name of a topic or a Redis stream
    partition: int | None = None
    offset: str | None = None  # Kafka offset or Redis entry id
    key: str | None = None
    value: str | None = None
    value_base64: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    error: str  # class
    reason: str  # text, with what to do next if anything can be done
    attempts: int = 1
    tenant_id: str | None = None
    post_id: str | None = None
    trace_id: str | None = None
    first_seen_ms: int
    last_seen_ms: int
    code_version: str


_DECODERS: dict[Any, TypeAdapter[Any]] = {}


def decode(model: Any, value: bytes | None) -> Any:
    """Decode one message value. Raises pydantic.ValidationError (a ValueError) on anything that does not fit."""
    adapter = _DECODERS.get(model)
    if adapter is None:
        adapter = _DECODERS[model] = TypeAdapter(model)
    return adapter.validate_json(value or b"")


def headers_of(trace_id: str, type_: str, traceparent: str | None = None) -> Mapping[str, bytes]:
    """The headers that every message carries."""
    headers = {"trace_id": trace_id.encode(), "type": type_.encode()}
    if traceparent:
        headers["traceparent"] = traceparent.encode()
    return headers
