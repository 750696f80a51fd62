"""How many examples the slowest property tests try: all in `make test`, a quarter in `make unit`, which sets QUICK."""

from __future__ import annotations

import os

QUICK = os.environ.get("QUICK") == "1"


def examples(count: int) -> int:
    """The number of examples of this run, of `count` in a whole one."""
    return max(1, count // 4) if QUICK else count
