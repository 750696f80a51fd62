"""The tables that the fault tests leave behind, as JSON and as markdown to be pasted into the documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import orjson

from tests.faults.trial import Outcome

FOLDER = Path(__file__).parents[2] / ".vision" / "reports"
COUNTS = ("inputs", "ended", "missing", "duplicate_events", "dead_lettered", "calls", "extra_calls")
TOKENS = ("tokens_billed", "tokens_ledger", "tokens_lost")
NAMES = ("dependency", "fault", *COUNTS, *TOKENS, "discrepancies", "readiness said", "worker restarts", "recovery, s")
HEAD = f"| {' | '.join(name.replace('_', ' ') for name in NAMES)} |"


def write_outcomes(outcomes: Sequence[Outcome], name: str = "faults") -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.json").write_bytes(orjson.dumps([asdict(each) for each in outcomes], option=orjson.OPT_INDENT_2))
    lines = [HEAD, "|---" * (HEAD.count("|") - 1) + "|", *map(_line, outcomes)]
    (FOLDER / f"{name}.md").write_text("\n".join(lines) + "\n", "utf-8")


def _line(outcome: Outcome) -> str:
    cells = [
        outcome.dependency,
        f"{outcome.fault}, {outcome.seconds:.0f} s",
        *(outcome.account[name] for name in (*COUNTS, *TOKENS)),
        len(outcome.discrepancies),
        ", ".join(said.partition(":")[0] for said in outcome.readiness) or "ready",
        outcome.restarts,
        "over the limit" if outcome.recovery_seconds is None else outcome.recovery_seconds,
    ]
    return "| " + " | ".join(map(str, cells)) + " |"
