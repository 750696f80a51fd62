"""What is excepted from a gate says why, beside it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("vision_app", "agents", "bridges", "tables", "scripts", "deploy", "tests")
EXCEPTION = re.compile(r"#\s*(noqa\b(?!.*: [A-Z]+[0-9]+(, [A-Z]+[0-9]+)* - \S)|type: ignore\[[\w, -]+\](?!  # \S))")


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_exception_has_its_reason(folder: str) -> None:
    bare = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            found = EXCEPTION.search(line)
            if found:
                bare.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert [line for line in bare if "test_gates.py" not in line] == []


@pytest.mark.parametrize(
    ("line", "bare"),
    [
        ("x = 1  # noqa: S101", True),
        ("x = 1  # noqa", True),
        ("x = 1  # noqa: S101 - asked for above", False),
        ("x = 1  # noqa: S603, S607 - a list made here", False),
        ("x = 1  # type: ignore[arg-type]", True),
        ("x = 1  # type: ignore[arg-type]  # names are places", False),
    ],
)
def test_a_reason_is_recognised(line: str, bare: bool) -> None:
    assert bool(EXCEPTION.search(line)) is bare
