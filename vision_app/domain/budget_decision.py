"""The result of one command to a tenant's budget, as data. `budget.py` decides it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from vision_app.messages import Charged, Message

from .budget_rows import BudgetRow, Parked

ParkedView = Callable[[int], Parked | None]
"""Looks up the stored entry of a number in the queue; None if there is none."""


@dataclass(slots=True)
class BudgetDecision:
    """`row` is None if there is nothing to store. `load` asks for what Postgres knows of the tenant.

    `charges` tell the owner's accounts what grants were charged; they are sent, too. `park` and `unpark` are the parked
    entries to write and to delete, by their numbers in the queue. `observed` is for metrics and the log: a name and its
    details.
    """

    row: BudgetRow | None
    send: list[Message] = field(default_factory=list)
    charges: list[Charged] = field(default_factory=list)
    park: dict[int, Parked] = field(default_factory=dict)
    unpark: list[int] = field(default_factory=list)
    load: bool = False
    observed: list[tuple[str, dict[str, str | int]]] = field(default_factory=list)

    def observe(self, what: str, **details: str | int) -> None:
        self.observed.append((what, details))
