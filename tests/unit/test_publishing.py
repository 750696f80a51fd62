"""How many posts of each kind `vision publish` sends."""

from __future__ import annotations

from collections import Counter

import pytest

from vision_app.operations.publishing import Batch, kinds


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, {"valid": 1}),
        (2, {"valid": 1, "missing": 1}),
        (3, {"valid": 1, "missing": 1, "poison": 1}),
        (5, {"valid": 2, "missing": 2, "poison": 1}),
        (9, {"valid": 5, "missing": 3, "poison": 1}),
        (10, {"valid": 6, "missing": 3, "poison": 1}),
        (100, {"valid": 60, "missing": 30, "poison": 10}),
    ],
)
def test_a_mix_holds_every_kind_from_three_posts_on(count: int, expected: dict[str, int]) -> None:
    assert Counter(kinds(Batch(count, "mixed", "t", "p", "stream"))) == expected
