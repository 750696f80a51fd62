"""Record what the budget core decides, as tests/fixtures/budget_rows.jsonl.xz: `python -m tests.record_budget_rows`.

`tests/unit/test_budget_recorded.py` replays the record and compares every decision byte for byte. Record anew only when
the decisions are meant to change; the old record then no longer holds.

Each line of the record is one sequence, each step of it one call of `decide`. The sequences are random with fixed
seeds. They hold the same commands and accidents as `test_budget_properties.py`: ends of grants in any order and
repeated, OCR, other rules, clocks that step back, days that pass, redelivery after a crash, lost ledgers, and lost
parked entries.
"""

from __future__ import annotations

import dataclasses
import json
import lzma
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vision_app.domain import budget as core
from vision_app.domain.budget_ledger import KEPT_TASK_BYTES
from vision_app.domain.moment import Moment
from vision_app.messages import (
    Drop,
    Grant,
    Load,
    Lost,
    MediaTask,
    Medium,
    Pause,
    Purpose,
    Release,
    Reserve,
    Reset,
    Resume,
    SetLimit,
    Settle,
    Wake,
)

FIXTURE = Path(__file__).parent / "fixtures" / "budget_rows.jsonl.xz"
EVENING_MS = int(datetime(2026, 11, 22, 23, tzinfo=UTC).timestamp() * 1000)
MINUTE_MS, HOUR_MS = 60_000, 3_600_000
TENANT = "t"
SHORT = {"announced": 2, "settled": 2, "unsettled": 6}  # small, so that short sequences reach these bounds
REAL = {"announced": 100, "settled": 32, "unsettled": 64}
RECORDED_SEEDS = range(210)

Decide = Callable[..., core.BudgetDecision]


def bounds(announced: int, settled: int, unsettled: int) -> core.Bounds:
    """The bounds of a sequence, as the fixture names them."""
    return core.Bounds(announced, settled, unsettled)


def as_recorded(rules: core.BudgetRules) -> tuple[Any, ...]:
    """The rules without their bounds, which are the same for the whole sequence."""
    return dataclasses.astuple(rules)[:4]


def outcome(decision: core.BudgetDecision) -> dict[str, Any]:
    """Everything that a decision says, with all orders kept, as JSON would return it."""
    return {
        "row": None if decision.row is None else decision.row.encode().decode(),
        "send": [message.encode().decode() for message in decision.send],
        "park": [[number, entry.encode().decode()] for number, entry in decision.park.items()],
        "unpark": list(decision.unpark),
        "load": decision.load,
        "observed": [[what, [list(detail) for detail in details.items()]] for what, details in decision.observed],
    }


class Tenant:
    """One tenant's row and parked entries as the shell keeps them. The recorder and the replay both use it."""

    def __init__(self, decide: Decide, rules: core.BudgetRules) -> None:
        self.decide, self.rules = decide, rules
        self.row: core.BudgetRow | None = None
        self.parked: dict[int, core.Parked] = {}

    def forget(self, *, garbage: bool) -> None:
        """The changelog of the ledger is gone; with `garbage` the parked entries are still there."""
        self.row = None
        if not garbage:
            self.parked.clear()

    def do(self, command: Any, at: Moment, ledger: str, stored: str) -> core.BudgetDecision:
        """Decide one command. `stored` says how far the shell came before it died: nothing, entries, row, all."""
        decision = self.decide(self.row, command, at, self.rules, self.parked.get, ledger)
        if stored != "nothing":
            self.parked |= decision.park
        if stored in ("row", "all"):
            self.row = decision.row or self.row
        if stored == "all":
            for number in decision.unpark:
                self.parked.pop(number, None)
        return decision


class Sequence:
    """One random sequence; `steps` is what the fixture stores."""

    def __init__(self, seed: int, decide: Decide) -> None:
        self.random = random.Random(seed)
        self.long = seed % 60 == 0  # a queue of more than a hundred
        self.bounds = REAL if self.long or seed % 8 == 1 else SHORT
        room = 400 if self.long else self.random.choice([3, 12, 12])
        slots, ocr = self.random.randint(1, 3), self.random.random() < 0.5
        rules = core.BudgetRules(
            limit=100, max_concurrent=slots, max_queue=room, ocr_fallback=ocr, bounds=bounds(**self.bounds)
        )
        self.tenant = Tenant(decide, rules)
        self.steps: list[dict[str, Any]] = []
        self.changes: dict[str, Any] = {"rules": as_recorded(self.tenant.rules)}
        self.log: list[tuple[Moment, Any]] = []
        self.cursor = self.births = self.names = 0
        self.clock_ms = EVENING_MS
        self.grants: list[Grant] = []

    def run(self, length: int) -> list[dict[str, Any]]:
        if self.random.random() < 0.8:
            self.send(Load(tenant_id=TENANT, day="2026-11-22", spent=0))
        if self.long:
            self.fill_queue()
        actions = [self.reserve] * 4 + [self.end_grants] * 8 + [self.operate] * 3 + [self.pass_time] * 2
        actions += [self.load, self.change_rules, self.redeliver, self.crash]
        end = len(self.steps) + length
        while len(self.steps) < end:
            self.random.choice(actions)()
            if self.random.random() < 0.02:
                self.lose_something()
        return self.steps

    def send(self, *commands: Any) -> None:
        for command in commands:
            self.append(command)
        while self.cursor < len(self.log):
            self.deliver("all")

    def append(self, command: Any) -> None:
        self.clock_ms += 7
        self.log.append((Moment(time_ms=self.clock_ms, offset=len(self.log)), command))

    def deliver(self, stored: str) -> None:
        at, command = self.log[self.cursor]
        self.births += self.tenant.row is None
        ledger = f"ledger{self.births}"
        decision = self.tenant.do(command, at, ledger, stored)
        self.grants += [message for message in decision.send if isinstance(message, Grant)]
        self.log += [
            (Moment(time_ms=self.clock_ms, offset=len(self.log) + place), message)
            for place, message in enumerate(m for m in decision.send if isinstance(m, Wake | Drop))
        ]
        step = {"command": command.encode().decode(), "at": [at.time_ms, at.offset], "ledger": ledger, "stored": stored}
        self.steps.append({**self.changes, **step, "outcome": outcome(decision)})
        self.changes = {}
        self.cursor += stored == "all"

    # -- what tenants and operators do

    def task(self, *, large: bool = False) -> MediaTask:
        self.names += 1
        name = f"n{self.names}"
        return MediaTask(
            tenant_id=TENANT,
            post_id=name,
            trace_id="x" * KEPT_TASK_BYTES if large else "x",
            medium=Medium(sha256=name),
            dispatch=1,
            ocr_allowed=self.random.random() < 0.5,
        )

    def reserve(self) -> None:
        for _ in range(self.random.randint(1, 4)):
            estimate = self.random.choice([1, 10, 30, 50, 90, 120])
            purpose: Purpose = "repair" if self.random.random() < 0.1 else "answer"
            task = self.task(large=self.random.random() < 0.01)
            command = Reserve(tenant_id=TENANT, task=task, estimate=estimate, purpose=purpose)
            self.send(*[command] * (2 if self.random.random() < 0.1 else 1))

    def fill_queue(self) -> None:
        """More than two hundred wait; then they are dropped, or learn that the money is gone, or go on."""
        self.send(Pause(tenant_id=TENANT))
        for _ in range(self.random.randint(205, 230)):
            self.append(Reserve(tenant_id=TENANT, task=self.task(), estimate=self.random.choice([20, 40, 60])))
        ends: list[Any] = [Drop(tenant_id=TENANT), Load(tenant_id=TENANT, day="2026-11-22", spent=90)]
        self.send(self.random.choice(ends))
        self.send(SetLimit(tenant_id=TENANT, limit=self.random.choice([10, 50])), Resume(tenant_id=TENANT))

    def end_grants(self) -> None:
        for _ in range(self.random.randint(1, 6)):
            if not self.grants:
                return
            open_ = [] if self.tenant.row is None else [g for g in self.grants if g.id in self.tenant.row.open]
            recent = self.grants[-12:] if self.random.random() < 0.9 else self.grants
            grant = self.random.choice(open_ if open_ and self.random.random() < 0.6 else recent)
            name = "of another ledger" if self.random.random() < 0.02 else grant.id
            end = self.random.random()
            if end < 0.5:
                self.send(Settle(tenant_id=TENANT, grant_id=name, tokens=self.random.choice([0, 1, 20, 60, 95])))
            elif end < 0.75:
                self.send(Release(tenant_id=TENANT, grant_id=name))
            else:
                lost = Lost(
                    tenant_id=TENANT, grant_id=name, estimate=grant.estimate, purpose=grant.purpose, task=grant.task
                )
                self.send(lost)

    def operate(self) -> None:
        row = self.tenant.row
        first = 0 if row is None else row.first
        number = first + self.random.randint(0, 5)
        any_limit = SetLimit(tenant_id=TENANT, limit=self.random.choice([None, None, 0, 40, 100, 300]))
        plain = [kind(tenant_id=TENANT) for kind in (Reset, Reset, Pause, Resume, Resume, Resume, Drop, Wake, Wake)]
        ranges = [
            Drop(tenant_id=TENANT, first=number, before=number + 1),
            Drop(tenant_id=TENANT, first=number, before=number + self.random.randint(0, 9)),
        ]
        self.send(self.random.choice([any_limit, any_limit, *plain, *ranges]))

    def load(self) -> None:
        day = self.random.choice(["2026-11-22", Moment(time_ms=self.clock_ms, offset=0).day])
        spent, limit = self.random.choice([0, 0, 70]), self.random.choice([None, 60])
        self.send(Load(tenant_id=TENANT, day=day, spent=spent, limit=limit, paused=self.random.random() < 0.2))

    # -- what happens to the worker

    def pass_time(self) -> None:
        self.clock_ms += self.random.choice([1, 10 * MINUTE_MS, 2 * HOUR_MS, 25 * HOUR_MS, -100, -2 * HOUR_MS])
        if self.random.random() < 0.5:
            self.send(Wake(tenant_id=TENANT))

    def change_rules(self) -> None:
        self.tenant.rules = dataclasses.replace(
            self.tenant.rules,
            limit=self.random.choice([60, 100, 100, 200]),
            max_concurrent=self.random.randint(1, 3),
            ocr_fallback=self.random.random() < 0.5,
        )
        self.changes["rules"] = as_recorded(self.tenant.rules)
        self.send(Wake(tenant_id=TENANT))

    def redeliver(self) -> None:
        self.cursor = max(0, self.cursor - self.random.randint(1, 5))
        self.send()

    def crash(self) -> None:
        """The worker dies while it handles a command; the command comes again, perhaps under other rules."""
        self.append(self.random.choice([Reset(tenant_id=TENANT), Resume(tenant_id=TENANT), Wake(tenant_id=TENANT)]))
        self.deliver(self.random.choice(["nothing", "entries", "row"]))
        if self.random.random() < 0.3:
            self.change_rules()
        self.send()

    def lose_something(self) -> None:
        waiting = [] if self.tenant.row is None else core.queue(self.tenant.row, 0, 8)
        if waiting and self.random.random() < 0.6:
            number = self.random.choice(waiting)
            self.tenant.parked.pop(number, None)
            self.changes.setdefault("lost_entries", []).append(number)
        else:
            garbage = self.random.random() < 0.5
            self.tenant.forget(garbage=garbage)
            self.changes["lost_ledger"] = {"garbage": garbage}


def record(seed: int, decide: Decide = core.decide, length: int = 40) -> dict[str, Any]:
    """One sequence of the fixture."""
    sequence = Sequence(seed, decide)
    return {"seed": seed, "bounds": sequence.bounds, "steps": sequence.run(length)}


def main() -> None:
    lines = [json.dumps(record(seed), separators=(",", ":")) for seed in RECORDED_SEEDS]
    FIXTURE.parent.mkdir(exist_ok=True)
    FIXTURE.write_bytes(lzma.compress("\n".join(lines).encode(), preset=9))
    print(f"{len(lines)} sequences, {FIXTURE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
