"""`make crash`: a worker dies once at every await it can be led to; nothing is lost, doubled or overspent.

CRASH_PASSED names a file of points at which an earlier run has died: only the others are died at then.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from vision_app.soak.crash import crash_everywhere
from vision_app.stack.client import running_stack

PASSED = Path(file).read_text("utf-8").split() if (file := os.environ.get("CRASH_PASSED")) else []
UNREACHED: dict[str, str] = {}
"""Points that a run need not reach, and why a death there is no other than at the point before."""

pytestmark = [pytest.mark.load, pytest.mark.timeout(3 * 3600)]


async def test_a_worker_may_die_at_every_await(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()

    def tell(line: str) -> None:
        with capsys.disabled():
            print(f"{time.monotonic() - started:6.0f} s  {line}", flush=True)

    with running_stack(tmp_path) as variables:
        result = await crash_everywhere(tmp_path, f"{int(started)}", variables, tell, PASSED)
    tell(f"{len(result.deaths)} deaths in {result.rounds} rounds, {len(result.never)} points never reached:")
    for point in result.never:
        tell(f"  {point}")
    account = result.account
    assert account is not None
    tell(str(account.as_dict()))
    assert result.left == ""
    assert result.unexplained == []
    assert account.discrepancies == []
    assert set(result.never) <= UNREACHED.keys()
