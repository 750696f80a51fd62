"""The tables of the budget actor: one row per tenant, and one entry per task that waits."""

from __future__ import annotations

from typing import Any

from vision_app.domain.budget import BudgetRow, Parked
from vision_app.streams.confirmed_table import ConfirmedTable
from vision_app.topics import CHANGELOG


def budget_table(app: Any, partitions: int) -> ConfirmedTable:
    """Key: tenant. Value: `domain.budget.BudgetRow`; small, even with a long queue."""
    table: ConfirmedTable = app.Table(
        "budget",
        key_type=bytes,
        value_type=bytes,
        help="ledger of each tenant",
        partitions=partitions,
        extra_topic_configs=CHANGELOG,
    )
    table.model = BudgetRow
    return table


def parked_table(app: Any, partitions: int) -> ConfirmedTable:
    """Key: tenant|number. Value: `domain.budget.Parked`."""
    table: ConfirmedTable = app.Table(
        "parked",
        key_type=bytes,
        value_type=bytes,
        help="tasks that wait",
        partitions=partitions,
        extra_topic_configs=CHANGELOG,
    )
    table.model = Parked
    return table


def parked_key(tenant_key: bytes, number: int) -> bytes:
    """The key of a waiting task: the tenant's key, `|` (which no key contains), its number in the queue."""
    return tenant_key + b"|" + str(number).encode()


def parked_entry(table: ConfirmedTable, tenant_key: bytes, number: int) -> Parked | None:
    entry: Parked | None = table.row(parked_key(tenant_key, number))
    return entry
