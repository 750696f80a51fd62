"""The tables of the budget actor: one row per tenant, and one entry per task that waits."""

from __future__ import annotations

from typing import Any

from vision_app.domain.budget import BudgetRow, Parked
from vision_app.streams.confirmed_table import ConfirmedTable, changelog_table


def budget_table(app: Any, partitions: int) -> ConfirmedTable:
    """Key: tenant. Value: `domain.budget.BudgetRow`; small, even with a long queue."""
    return changelog_table(app, "budget", BudgetRow, partitions, "ledger of each tenant")


def parked_table(app: Any, partitions: int) -> ConfirmedTable:
    """Key: tenant|number. Value: `domain.budget.Parked`."""
    return changelog_table(app, "parked", Parked, partitions, "tasks that wait")


def parked_key(tenant_key: bytes, number: int) -> bytes:
    """The key of a waiting task: the tenant's key, `|` (which no key contains), its number in the queue."""
    return tenant_key + b"|" + str(number).encode()


def parked_entry(table: ConfirmedTable, tenant_key: bytes, number: int) -> Parked | None:
    entry: Parked | None = table.row(parked_key(tenant_key, number))
    return entry
