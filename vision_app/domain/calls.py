"""The protocol of a grant's one call to the provider: from what is known to the next step. Pure; no clock, no I/O.

A call is known by its record in S3 and by the answer stored for the picture:

    record    stored answer         next step
    --------  --------------------  ---------------------------------------------------------------
    none      none                  Call, about the picture
    none      any                   Conclude; nothing was spent on this grant
    started   of this grant         Conclude; the call ended, but its record was not closed
    started   another, or none      Wait, while another worker may still be making the call
    started   another, or none      CutOff, once no worker can be making it any more
    done      any                   Conclude, with the tokens of the record
    done      none                  Expired; it was paid, but its answer is no longer kept

A grant of purpose `repair` asks the model to put its own unusable answer into form. It differs without a record:

    none      none                  Expired; there is nothing left to repair
    none      repairable            Call, about the broken answer
    none      any other             Conclude; nothing was spent on this grant

The record is written (`started`) right before the request is sent, and closed (`done`) after the answer was stored. A
request that was refused for free has no record. `may_begin` is asked again before the record is written, since the
upload may have taken long.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from vision_app.messages import Answer, Grant, Lost, Message, Release, Reserve, Settle, Verdict

REPAIR_FAILED = "repair:failed"
"""Among an answer's faults: the repair by the model failed, too."""
RETURNED = "returned"
"""Among a task's times: when a grant was returned because no call may be made on it."""


class StoredAnswer(BaseModel):
    """An answer as it is kept: repaired form and raw text. `grant_id` is the grant that paid for it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    answer: Answer
    tenant_id: str
    sha256: str
    grant_id: str
    content: str
    stored_at: AwareDatetime


class CallRecord(BaseModel):
    """What is known of the one call of a grant. `tokens`, `verdict` and `answer_key` are set when it is done.

    `owner` is the process that began it, as `worker/start`. If that process may still run, the call is not lost.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    state: Literal["started", "done"]
    grant_id: str
    owner: str = ""
    tokens: int | None = Field(default=None, ge=0)
    verdict: Verdict | None = None
    answer_key: str | None = None
    at: AwareDatetime


# --- the steps --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """Make the call: about the picture, or about a `broken` answer that is to be repaired."""

    broken: StoredAnswer | None = None


@dataclass(frozen=True)
class Conclude:
    """Hand on a stored answer. `tokens`: what this grant's call cost, 0 if it made none."""

    stored: StoredAnswer
    tokens: int


@dataclass(frozen=True)
class WaitForOther:
    """Look again after a pause: another worker may be making the call."""


@dataclass(frozen=True)
class CutOff:
    """The call was begun and no process is making it any more. It may have been billed."""


@dataclass(frozen=True)
class Expired:
    """There is no answer to hand on. `tokens` None: nothing was spent."""

    tokens: int | None


Step = Call | Conclude | WaitForOther | CutOff | Expired


def next_step(
    grant: Grant,
    record: CallRecord | None,
    found: StoredAnswer | None,
    *,
    owner: str,
    now: datetime,
    deadline_seconds: float,
) -> Step:
    """What to do with a grant. `found` is the picture's answer, looked up with `only_good(grant, record)`.

    `owner` is the asking process. `deadline_seconds`: longest time of a call, until its answer is stored.
    """
    if record is None:
        return _without_record(grant, found)
    tokens = record.tokens or 0
    if record.state == "started":
        if found is None or found.grant_id != grant.id:
            return WaitForOther() if _may_still_run(record, owner, now, deadline_seconds) else CutOff()
        tokens = found.answer.tokens  # after a repair the sum of both calls: too much, never too little
    return Expired(tokens) if found is None else Conclude(found, tokens)


def _without_record(grant: Grant, found: StoredAnswer | None) -> Step:
    if grant.purpose == "answer":
        return Call() if found is None else Conclude(found, 0)
    if found is None:
        return Expired(None)
    return Call(found) if is_repairable(found) else Conclude(found, 0)


def _may_still_run(record: CallRecord, owner: str, now: datetime, deadline_seconds: float) -> bool:
    """True for a recent call of another worker, which finishes it after a rebalance. Earlier starts of ours ended."""
    if record.owner.partition("/")[0] in ("", owner.partition("/")[0]):
        return False  # a process handles a grant once at a time, so no call of ours still runs; "": unreadable record
    return 0 <= (now - record.at).total_seconds() < deadline_seconds


def may_begin(grant: Grant, record: CallRecord | None, found: StoredAnswer | None, owner: str) -> bool:
    """Whether to make the call: no other process began it, and no answer was stored meanwhile.

    A record of `owner` itself is from an earlier attempt that was refused for free. `found` is looked up with
    `only_good(grant, None)`.
    """
    if record is not None and record.owner != owner:
        return False
    return isinstance(_without_record(grant, found), Call)


def only_good(grant: Grant, record: CallRecord | None) -> bool:
    """Whether only a usable answer counts. A forced analysis asks again, unless this grant has paid for the answer."""
    return grant.task.force and record is None and grant.purpose == "answer"


def possible_cost(grant: Grant, record: CallRecord) -> int:
    """Tokens that a begun call may have cost."""
    return grant.estimate if record.tokens is None else record.tokens


def is_repairable(stored: StoredAnswer) -> bool:
    """Whether the answer is unreadable but neither empty nor a refusal, and no repair was tried."""
    answer = stored.answer
    return answer.verdict == "unusable" and bool(stored.content.strip()) and REPAIR_FAILED not in answer.faults


# --- what is sent at the end ------------------------------------------------------------------------------------------


def close(grant: Grant, tokens: int | None) -> Message:
    """The command that ends a grant. `tokens` None: nothing was spent."""
    tenant = grant.task.tenant_id
    if tokens is None:
        return Release(tenant_id=tenant, grant_id=grant.id)
    task = grant.task
    return Settle(
        tenant_id=tenant,
        grant_id=grant.id,
        tokens=tokens,
        post_id=task.post_id,
        sha256=task.medium.sha256,
        prompt_key=task.prompt_key,
    )


def ask_for_repair(grant: Grant, tokens: int, estimate: int) -> list[Message]:
    """Settle the call that gave an unusable answer, and reserve `estimate` tokens for its repair."""
    reserve = Reserve(tenant_id=grant.task.tenant_id, task=grant.task, estimate=estimate, purpose="repair")
    return [close(grant, tokens), reserve]


def ask_again(grant: Grant) -> list[Message]:
    """Charge a call that was cut off at its estimate, and queue its task again."""
    task = grant.task.model_copy(update={"attempt": grant.task.attempt + 1})
    return [
        Lost(
            tenant_id=grant.task.tenant_id, grant_id=grant.id, estimate=grant.estimate, purpose=grant.purpose, task=task
        )
    ]


def ask_anew(grant: Grant, estimate: int, now_ms: int) -> list[Message]:
    """Give back a grant on which no call may be made, and reserve `estimate` tokens for its task."""
    task = grant.task.at(**{RETURNED: now_ms})
    return [
        close(grant, None),
        Reserve(tenant_id=task.tenant_id, task=task, estimate=estimate, purpose=grant.purpose),
    ]
