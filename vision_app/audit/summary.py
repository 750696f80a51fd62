"""The summary of an account: its totals, its first discrepancies and its notes, bounded in size.

The worker takes it from the child process (`child.py`), keeps it in Postgres and shows it. All figures per tenant are
in `vision audit --json`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from itertools import islice

from pydantic import BaseModel, Field

from vision_app.stores.text import storable, storable_text

from .figures import Account, Figures, Waits

MOST_SENTENCES = 50
MOST_NOTES = 20
MOST_REASONS = 30
SENTENCE_CHARS = 1000
"""A sentence names tenants and posts, whose ids may have 256 characters each."""


class AccountSummary(BaseModel):
    """What an account found. `notes` say what could not be checked; they are no discrepancies."""

    clean: bool = Field(description="no discrepancy was found")
    taken_at: datetime = Field(description="inputs published since then are left out")
    since: datetime | None = Field(description="only what was published since then; null: all data that is kept")
    seconds: float = Field(description="how long it took")
    tenants: int = Field(description="tenants that were seen")
    bill_available: bool = Field(description="false with the real GigaChat, which shows no bill: see notes")
    figures: Figures = Field(description="counts of inputs, events, calls and tokens; docs/audit.md says what each is")
    waits: Waits = Field(description="from publication to event, in milliseconds")
    skipped_because: dict[str, int]
    extra_because: dict[str, int] = Field(description="calls beyond one per picture, by their reason")
    discrepancies_total: int
    discrepancies: list[str] = Field(description="the first 50, one sentence each; `vision audit` shows more")
    notes: list[str]

    @classmethod
    def of(cls, account: Account) -> AccountSummary:
        return cls(
            clean=account.clean,
            taken_at=_time(account.taken_ms),
            since=_time(account.since_ms) if account.since_ms else None,
            seconds=account.seconds,
            tenants=len(account.tenants),
            bill_available=account.bill_available,
            figures=Figures(**storable({one.name: getattr(account, one.name) for one in fields(Figures)})),
            waits=account.waits,
            skipped_because=_first_reasons(account.skipped_because),
            extra_because=_first_reasons(account.extra_because),
            discrepancies_total=account.discrepancies_total,
            discrepancies=_first(account.discrepancies, MOST_SENTENCES),
            notes=_first(account.notes, MOST_NOTES),
        )


class ChildReply(BaseModel):
    """What the child process prints: the summary, or why there is none and what to do next."""

    summary: AccountSummary | None = None
    failure: str = ""


def _first(sentences: Iterable[str], most: int) -> list[str]:
    return [storable_text(one)[:SENTENCE_CHARS] for one in islice(sentences, most)]


def _first_reasons(counts: Mapping[str, int]) -> dict[str, int]:
    return {storable_text(name)[:SENTENCE_CHARS]: count for name, count in islice(counts.items(), MOST_REASONS)}


def _time(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)
