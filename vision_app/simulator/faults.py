"""Misbehaviour on request: the form of a rule, and which rules apply to a request. delivery.py carries them out.

Pure, except for counting and random numbers. How to use it: docs/simulator.md.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from vision_app.simulator.files import StoredFile
from vision_app.simulator.malformed import MalformedName
from vision_app.simulator.oauth import Caller
from vision_app.simulator.refusals import RefusalName

Endpoint = Literal["oauth", "upload", "files", "chat", "delete", "models", "tokens", "balance"]
Seconds = Annotated[float, Field(ge=0, le=3600)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Latency(_Model):
    """Wait before the work: `seconds`, or a random time from `seconds` to `max_seconds`. Combines with other faults."""

    kind: Literal["latency"]
    seconds: Seconds
    max_seconds: Seconds | None = None

    def draw(self) -> float:
        return random.uniform(self.seconds, max(self.seconds, self.max_seconds or self.seconds))  # noqa: S311 - not a secret


class Status(_Model):
    """Refuse with a status. `in_200` sends the error body under HTTP 200.

    It comes before any work, so it is not billed; with `after_work` (a gateway that lost the answer) it is billed.
    """

    kind: Literal["status"]
    status: int = Field(ge=400, le=599)
    message: str | None = None
    retry_after: Seconds | None = None
    retry_after_format: Literal["seconds", "http-date"] = "seconds"
    html: bool = False
    after_work: bool = False
    in_200: bool = False


class Hang(_Model):
    """Accept and never answer, until the client goes away. `after_work`: the work was done and is billed."""

    kind: Literal["hang"]
    after_work: bool = False


class Drop(_Model):
    """Close the connection before the answer. `after_work`: the work was done and is billed."""

    kind: Literal["drop"]
    after_work: bool = False


class Reset(_Model):
    """Send half of the answer, then reset the connection. The work is billed."""

    kind: Literal["reset"]


class Drip(_Model):
    """Send the answer `chunk_bytes` at a time, `interval` seconds apart. The work is billed."""

    kind: Literal["drip"]
    chunk_bytes: int = Field(16, gt=0)
    interval: Seconds = 0.1


class Revoke(_Model):
    """Make the client's tokens invalid from this request on: 401 "Token has expired"."""

    kind: Literal["revoke"]


class TokenTtl(_Model):
    """OAuth only: the token lives `seconds`, and its stated expiry is wrong by `skew_seconds` (clock skew)."""

    kind: Literal["token_ttl"]
    seconds: float = 0.0
    skew_seconds: float = 0.0


class Malformed(_Model):
    """Chat only: the answer, broken in the named way. Billed."""

    kind: Literal["malformed"]
    name: MalformedName


class Refusal(_Model):
    """Chat only: a refusal instead of an answer, at HTTP 200. Billed."""

    kind: Literal["refusal"]
    name: RefusalName = "blacklist"


class FinishReason(_Model):
    """Chat only: `length` cuts the answer in half, `error` empties it. Billed."""

    kind: Literal["finish_reason"]
    reason: Literal["length", "error"]


class Obey(_Model):
    """Chat only: the model obeys the text on the picture. `text` is that text; None: the text from OCR. Billed.

    `how`: `answer` makes the text the whole answer; `fields` puts it into every field of the usual one.
    """

    kind: Literal["obey"]
    text: str | None = Field(None, max_length=100_000)
    how: Literal["answer", "fields"] = "answer"


Fault = Annotated[
    Latency | Status | Hang | Drop | Reset | Drip | Revoke | TokenTtl | Malformed | Refusal | FinishReason | Obey,
    Field(discriminator="kind"),
]
CHAT_ONLY = (Malformed, Refusal, FinishReason, Obey)


@dataclass(frozen=True, slots=True)
class Subject:
    """The properties of a request that a rule can test: client, session, files."""

    client_id: str = ""
    session_id: str = ""  # X-Session-ID as the client sent it
    sha256: tuple[str, ...] = ()
    filenames: tuple[str, ...] = ()

    @classmethod
    def of(cls, caller: Caller, session_id: str | None, files: Sequence[StoredFile] = ()) -> Subject:
        shas, names = tuple(file.sha256 for file in files), tuple(file.filename for file in files)
        return cls(caller.client_id, session_id or "", shas, names)


class Rule(_Model):
    """When a fault is applied: all conditions must hold. `after` skips the first matches, `times` None is for ever."""

    endpoint: Endpoint | Literal["any"] = "any"
    client: str | None = None
    session: str | None = None  # X-Session-ID
    sha256: str | None = None  # of one of the files, as uploaded
    filename: str | None = None  # a part of the name of one of the files
    times: int | None = Field(None, ge=1)
    after: int = Field(0, ge=0)
    probability: float = Field(1.0, gt=0, le=1)
    fault: Fault

    def matches(self, endpoint: Endpoint, subject: Subject) -> bool:
        return (
            self.endpoint in ("any", endpoint)
            and self.client in (None, subject.client_id)
            and self.session in (None, subject.session_id)
            and (self.sha256 is None or self.sha256 in subject.sha256)
            and (self.filename is None or any(self.filename in name for name in subject.filenames))
            and (endpoint == "chat" or not isinstance(self.fault, CHAT_ONLY))
            and (endpoint == "oauth" or not isinstance(self.fault, TokenTtl))
        )


RULES: TypeAdapter[list[Rule]] = TypeAdapter(list[Rule])


@dataclass(slots=True)
class _Counted:
    number: int
    rule: Rule
    seen: int = 0
    fired: int = 0

    def fires(self) -> bool:
        self.seen += 1
        if self.seen <= self.rule.after or self.exhausted:
            return False
        if random.random() >= self.rule.probability:  # noqa: S311 - not a secret
            return False
        self.fired += 1
        return True

    @property
    def exhausted(self) -> bool:
        return self.rule.times is not None and self.fired >= self.rule.times


@dataclass(frozen=True, slots=True)
class Chosen:
    """The faults of one request: a wait, then at most one other fault."""

    delay_seconds: float = 0.0
    fault: Fault | None = None

    @property
    def name(self) -> str:
        return "" if self.fault is None else describe(self.fault)


@dataclass(slots=True)
class FaultRules:
    """The active rules, in the order they were added. The first that is applied wins; latencies add up."""

    _rules: list[_Counted] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def add(self, rules: Sequence[Rule]) -> list[int]:
        """Append `rules`; returns their numbers."""
        added = [_Counted(next(self._numbers), rule) for rule in rules]
        self._rules += added
        return [counted.number for counted in added]

    def clear(self) -> None:
        self._rules.clear()

    def listing(self) -> list[dict[str, object]]:
        return [
            {"number": c.number, "seen": c.seen, "fired": c.fired, **c.rule.model_dump(mode="json", exclude_none=True)}
            for c in self._rules
        ]

    def choose(self, endpoint: Endpoint, subject: Subject) -> Chosen:
        """The faults of this request; counts the rules that match it."""
        delay = 0.0
        for counted in self._rules:
            if not counted.rule.matches(endpoint, subject) or not counted.fires():
                continue
            if not isinstance(counted.rule.fault, Latency):
                return Chosen(delay, counted.rule.fault)
            delay += counted.rule.fault.draw()
        return Chosen(delay)


def describe(fault: Fault) -> str:
    """A fault in a word or two, as the bill's `outcome` shows it."""
    match fault:
        case Status():
            return f"status {fault.status}{' in 200' if fault.in_200 else ''}{' after work' * fault.after_work}"
        case Malformed() | Refusal():
            return f"{fault.kind} {fault.name}"
        case FinishReason():
            return f"finish_reason {fault.reason}"
        case Obey():
            return f"obey {fault.how}"
        case Hang() | Drop():
            return f"{fault.kind} {'after' if fault.after_work else 'before'} work"
        case _:
            return fault.kind
