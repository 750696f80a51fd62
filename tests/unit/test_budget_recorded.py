"""The budget core decides the same as when the record was made, byte for byte (`tests/record_budget_rows.py`)."""

from __future__ import annotations

import json
import lzma
from typing import Any

from pydantic import TypeAdapter

from tests.record_budget_rows import FIXTURE, Tenant, bounds, outcome
from vision_app.domain.budget import BudgetRow, BudgetRules, decide
from vision_app.domain.moment import Moment
from vision_app.messages import BudgetCommand

COMMANDS: TypeAdapter[Any] = TypeAdapter(BudgetCommand)


def sequences() -> list[dict[str, Any]]:
    return [json.loads(line) for line in lzma.decompress(FIXTURE.read_bytes()).splitlines()]


def replay(sequence: dict[str, Any]) -> None:
    tenant = Tenant(decide, BudgetRules(limit=0))
    for number, step in enumerate(sequence["steps"]):
        if "rules" in step:
            limit, concurrent, queue, ocr = step["rules"]
            tenant.rules = BudgetRules(limit, concurrent, queue, ocr, bounds(**sequence["bounds"]))
        for lost in step.get("lost_entries", []):
            tenant.parked.pop(lost, None)
        if "lost_ledger" in step:
            tenant.forget(**step["lost_ledger"])
        time_ms, offset = step["at"]
        command = COMMANDS.validate_json(step["command"])
        decision = tenant.do(command, Moment(time_ms=time_ms, offset=offset), step["ledger"], step["stored"])
        assert outcome(decision) == step["outcome"], f"seed {sequence['seed']}, step {number}: {step['command']}"
        if decision.row is not None:  # every field was set, none has its default by omission
            assert decision.row.model_fields_set == BudgetRow.model_fields.keys()


def test_every_recorded_sequence_leads_to_the_same_decisions() -> None:
    recorded = sequences()
    assert len(recorded) > 200
    for sequence in recorded:
        replay(sequence)


def test_the_record_holds_every_command_and_every_observation() -> None:
    steps = [step for sequence in sequences() for step in sequence["steps"]]
    commands = {json.loads(step["command"])["type"] for step in steps}
    assert commands == {
        *("reserve", "settle", "lost", "release", "load", "wake"),
        *("reset", "set_limit", "pause", "resume", "drop"),
    }
    observed = {what for step in steps for what, _ in step["outcome"]["observed"]}
    assert observed == {
        *("blocked", "duplicate", "exhausted", "forgotten", "lost"),
        *("late_lost", "late_settle", "missing_parked"),
    }
    assert max(len(step["outcome"]["send"]) for step in steps) > 100
