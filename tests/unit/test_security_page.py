"""Every test that docs/security.md and docs/hostile-inputs.md name as evidence exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agents.policy import MAX_EVENT_BYTES
from bridges import redis_in, reply_size
from vision_app.domain.posts import MAX_LISTED
from vision_app.events import LIMITS, MAX_DEPTH, MAX_MEDIA, MEDIUM_LIMITS
from vision_app.streams import in_flight, letter_forms

ROOT = Path(__file__).parents[2]
PAGES = [page for name in ("security", "hostile-inputs") if (page := ROOT / "docs" / f"{name}.md").exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_witness_exists(page: Path) -> None:
    named = re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", page.read_text())
    assert named
    for file, function in named:
        assert (ROOT / file).exists(), file
        assert not function or f"def {function}(" in (ROOT / file).read_text(), f"{file}::{function}"


def test_every_case_has_an_expectation_and_a_witness() -> None:
    table = (ROOT / "docs" / "security.md").read_text().partition("| case | expected | seen |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()[2:]]
    assert len(rows) > 25
    assert all(len(row) == 3 and all(row) and "tests/" in row[2] for row in rows)


def test_the_bounds_of_an_event_are_those_in_force() -> None:
    text = (ROOT / "docs" / "security.md").read_text().partition("## What an event may hold")[2].partition("\n## ")[0]
    assert {LIMITS[name] for name in ("tenant_id", "post_id", "channel_id")} == {256}
    medium = ", ".join(f"{MEDIUM_LIMITS[name]:,}" for name in MEDIUM_LIMITS)
    for line in (
        f"| `tenant_id`, `post_id`, `channel_id` | {LIMITS['tenant_id']} characters each |",
        f"| `trace_id` | {LIMITS['trace_id']} characters |",
        f"| `idempotency_key` | {LIMITS['idempotency_key']:,} characters |",
        f"| media of an event | {MAX_MEDIA} |",
        f"| a medium's {', '.join(f'`{name}`' for name in MEDIUM_LIMITS)} | {medium} characters |",
        f"| an event as JSON | {MAX_EVENT_BYTES:,} bytes |",
        f"| media of all publications of one post | {MAX_LISTED} |",
        f"| levels of lists and objects | {MAX_DEPTH} |",
    ):
        assert line in text, line
    for figure in (
        f"{redis_in.READ_AHEAD:,} entries and {redis_in.RedisInLimits().read_ahead_bytes >> 20} MiB",
        f"for {reply_size.READ_BYTES >> 20} MiB at most",
        f"holds {in_flight.WINDOW_BYTES >> 20} MiB of events",
        f"{letter_forms.KEPT_CHARACTERS:,} characters of the value, at most {letter_forms.CUT_BYTES:,} bytes",
        f"at most {letter_forms.PLACE_BYTES:,} bytes",
        f"keeps {redis_in.DLQ_DATA_BYTES:,} bytes",
    ):
        assert figure in text, figure
