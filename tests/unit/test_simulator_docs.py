"""docs/simulator.md names every fault and every malformed answer the simulator knows."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from vision_app.simulator import faults
from vision_app.simulator.malformed import MalformedName
from vision_app.simulator.refusals import RefusalName

DOCUMENT = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text("utf-8")


def kinds() -> list[str]:
    union, _ = get_args(faults.Fault)
    return [get_args(model.model_fields["kind"].annotation)[0] for model in get_args(union)]


@pytest.mark.parametrize(
    "name", [*kinds(), *get_args(MalformedName), *get_args(RefusalName), *get_args(faults.Endpoint)]
)
def test_documented(name: str) -> None:
    assert f"`{name}`" in DOCUMENT


@pytest.mark.parametrize("condition", sorted(set(faults.Rule.model_fields) - {"fault"}))
def test_conditions_are_documented(condition: str) -> None:
    assert f"`{condition}`" in DOCUMENT
