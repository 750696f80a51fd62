"""docs/dead-letters.md is complete: every place that buries is in its table, every test it names is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "dead-letters.md").read_text("utf-8")
BURY = {"put_event", "_bury", "put"}
"""What buries: methods of `DeadLetters`, and the private ones that only hand on to them."""


def places() -> Iterator[tuple[str, str]]:
    """(module, function) of every call that puts something among the dead letters, except in `_bury` of all but one.

    `in_flight._bury` is its module's one place; elsewhere `_bury` only hands on what its caller decided.
    """
    for module in sorted(
        path for folder in ("agents", "bridges", "vision_app") for path in (ROOT / folder).rglob("*.py")
    ):
        name = module.relative_to(ROOT).as_posix()
        if name == "vision_app/streams/dead_letters.py":
            continue
        for function in ast.walk(ast.parse(module.read_text("utf-8"))):
            if isinstance(function, ast.AsyncFunctionDef) and any(map(_buries, ast.walk(function))):
                yield name, function.name


def _buries(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr not in BURY:
        return False
    owner = ast.unparse(node.func.value)
    return owner == "self" if node.func.attr == "_bury" else owner.endswith("dead_letters")


def test_every_place_that_buries_is_in_the_table() -> None:
    listed = set(re.findall(r"^\| `([\w/]+\.py)` `(\w+)` \|", PAGE, re.MULTILINE))
    found = set(places())
    handing_on = {(module, "_bury") for module, _ in found} - {("vision_app/streams/in_flight.py", "_bury")}
    callers = {("vision_app/streams/in_flight.py", "_handle"), ("agents/policy.py", "policy_agent")}
    assert found - handing_on - callers == listed


def test_every_test_it_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    text = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 15
    assert {name for name in named if f"def {name}(" not in text} == set()
