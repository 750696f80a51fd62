"""What is excepted from a gate says why, beside it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
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


REASON = re.compile(r"#\s*patched: \S")
PATCHED_AT_MOST = 35
"""Patches with a reason. Instead of one more, pass the substitute, the pause or the limit as a parameter."""


def patches(text: str) -> Iterator[tuple[int, bool]]:
    """The line of each patch of an object, and whether the line or the one above it says why."""
    lines = ["", *text.splitlines()]
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=names) | ast.ImportFrom(module="unittest", names=names):
                if any(name.name.partition(".")[2] == "mock" or name.name == "mock" for name in names):
                    yield node.lineno, False
            case ast.ImportFrom(module="unittest.mock"):
                yield node.lineno, False
            case ast.Call(func=ast.Attribute(attr="setattr")):
                yield node.lineno, bool(REASON.search("\n".join(lines[node.lineno - 1 : node.lineno + 1])))


def test_what_is_ours_is_passed_and_not_patched() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{line}": reason
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for line, reason in patches(path.read_text("utf-8"))
    }
    assert [place for place, reason in found.items() if not reason] == []
    assert len(found) <= PATCHED_AT_MOST, list(found)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("monkeypatch.setattr(module, 'PAUSE', 0)", [False]),
        ("monkeypatch.setattr(os, '_exit', end)  # patched: the end of the process", [True]),
        ("# patched: the system's\npatched.setattr(\n    time, 'sleep', print)", [True]),
        ("# another remark\npatched.setattr(time, 'sleep', print)", [False]),
        ("from unittest.mock import patch", [False]),
        ("from unittest import mock", [False]),
        ("monkeypatch.setenv('HOME', '/'); setattr(world, 'refuse', None)", []),
    ],
)
def test_a_patch_is_recognised(code: str, found: list[bool]) -> None:
    assert [reason for _, reason in patches(code)] == found
