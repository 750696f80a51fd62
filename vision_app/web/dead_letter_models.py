"""What the routes below /api/v1/dlq take and answer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .models import Answer, Id, Time

LetterState = Literal["waiting", "replayed", "discarded"]
LetterId = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00]*$")]

MAX_CHOSEN = 500
"""Letters of one replay or discard by a filter."""
MAX_IDS = 100
"""Letters named one by one. All of the longest fit into a request's body."""


class LettersQuery(BaseModel):
    tenant_id: Id | None = Field(None, description="also found where only the bytes of a letter name it")
    post_id: Id | None = Field(None, description="also found where only the bytes of a letter name it")
    origin: Id | None = Field(None, description="the topic or Redis stream it came from")
    error: Id | None = Field(None, description="its error class, for example Unreadable")
    since: Time | None = Field(None, description="written since then")
    state: LetterState | Literal["all"] = Field("waiting", description="`waiting`: nobody has decided about it")
    cursor: LetterId | None = Field(None, description="`next_cursor` of the page before")
    limit: int = Field(50, ge=1, le=100, description="letters of a page")


class ListedDeadLetter(BaseModel):
    """A dead letter without its payload."""

    id: str
    state: LetterState
    origin: str
    error: str
    reason: str = Field(description="what happened and what to do; cut to 500 characters")
    tenant_id: str | None
    post_id: str | None
    post_trace_id: str | None
    attempts: int
    replays: int = Field(description="how often letters of the same picture, post or bytes were replayed")
    first_seen: datetime
    last_seen: datetime
    size_bytes: int = Field(description="of the payload")


class LetterGroup(BaseModel):
    origin: str
    error: str
    count: int


class LettersAnswer(Answer):
    """A page of dead letters, the newest first, and how many there are of each origin and error."""

    letters: list[ListedDeadLetter]
    total: int = Field(description="letters that fit the filter")
    groups: list[LetterGroup] = Field(description="of these, the largest first")
    next_cursor: str | None = Field(description="`cursor` of the next page; null at the end")
    states_known: bool = Field(description="false while Postgres is away: all letters are shown as waiting")
    complete: bool = Field(description="false if the oldest letters are left out, because there are too many")


class LetterPath(BaseModel):
    id: LetterId


class LetterAnswer(Answer):
    """One dead letter with its payload."""

    letter: ListedDeadLetter
    key: str | None
    partition: int | None
    offset: str | None = Field(description="Kafka offset or Redis entry id at the origin")
    headers: dict[str, str]
    code_version: str
    payload: str = Field(description="JSON indented, or text, or a hexadecimal dump; cut to 64 kB")
    payload_kind: Literal["json", "text", "bytes"]
    payload_cut: bool


class Chosen(BaseModel):
    """Which letters: by id, or all waiting ones that fit a filter. One of the fields is needed."""

    model_config = ConfigDict(extra="forbid")

    ids: Annotated[list[LetterId], Field(max_length=MAX_IDS)] = Field(default_factory=list)
    origin: Id | None = None
    error: Id | None = None
    tenant_id: Id | None = None
    dry_run: bool = Field(True, description="say what would happen; change nothing")

    @model_validator(mode="after")
    def _names_some(self) -> Self:
        if not (self.ids or self.origin or self.error or self.tenant_id):
            raise ValueError("name letters: ids, origin, error or tenant_id")
        return self


class ReplayBody(Chosen):
    again: bool = Field(False, description="also letters that came back after two replays")


class DiscardBody(Chosen):
    pass


class PlannedReplay(BaseModel):
    id: str
    destination: str | None = Field(description="the topic or stream; null if it cannot be replayed")
    whole_post: bool = Field(description="its post is closed, so the whole post is sent again")
    sent: str | None = Field(description="the new place; null in a dry run")
    refused: str | None = Field(description="why not")
    warning: str | None


class ReplayCost(BaseModel):
    """What asking again may cost, by distinct pictures."""

    asked: int = Field(description="pictures that are asked about")
    tokens_at_most: int
    cached: int = Field(description="pictures with an answer: free")
    gone: int = Field(description="pictures without an object: skipped, free")


class ReplayAnswer(Answer):
    dry_run: bool
    letters: list[PlannedReplay]
    cost: ReplayCost
    left: int = Field(description="letters that fit and were not taken this time, because a request takes 500 at most")


class DiscardAnswer(Answer):
    dry_run: bool
    ids: list[str]
    left: int
