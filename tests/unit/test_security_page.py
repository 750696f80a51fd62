"""Every test that docs/security.md and docs/hostile-inputs.md call a witness exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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
