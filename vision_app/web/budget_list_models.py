"""What /api/v1/budgets takes and answers: the ledgers of all tenants, a page at a time."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from .models import Answer, BudgetAnswer, Id

State = Literal["ok", "waiting", "exhausted", "paused"]

MAX_ASKED = 50


class BudgetsQuery(BaseModel):
    tenant_id: Id | None = Field(None, description="only this tenant")
    state: State | None = Field(None, description="only tenants in this state")
    cursor: Id | None = Field(None, description="`next_cursor` of the page before")
    limit: int = Field(50, ge=1, le=100, description="tenants of a page")


class TenantBudget(BudgetAnswer):
    """A tenant's ledger with what it means. `trace_id` is empty: it is part of a list."""

    state: State = Field(
        description="`exhausted`: today's money is spent, or tasks wait for it; `waiting`: tasks wait for a slot"
    )
    exhausted_at: datetime | None = Field(
        description="when today's money ends if spending goes on as since midnight UTC; null if it lasts till midnight"
    )


class BudgetsAnswer(Answer):
    """Tenants in the order of their names. A page may be short or empty though `next_cursor` is set."""

    budgets: list[TenantBudget]
    next_cursor: str | None = Field(description="`cursor` of the next page; null at the end")
    unknown: list[str] = Field(description="tenants whose worker did not answer; ask again in a few seconds")


class BudgetStatesQuery(BaseModel):
    tenants: Annotated[str, Field(max_length=8000)] = Field(description="a JSON list of tenant ids, 50 at most")


class BudgetStatesAnswer(Answer):
    """The ledgers that the asked worker holds, of the tenants asked for."""

    budgets: list[BudgetAnswer]
