"""`make crash`: a worker dies once at every await it can be led to; nothing is lost, doubled or overspent."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from vision_app.soak.crash import crash_everywhere
from vision_app.stack.client import running_stack

pytestmark = [pytest.mark.load, pytest.mark.timeout(3 * 3600)]


async def test_a_worker_may_die_at_every_await(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()

    def tell(line: str) -> None:
        with capsys.disabled():
            print(f"{time.monotonic() - started:6.0f} s  {line}", flush=True)

    with running_stack(tmp_path) as variables:
        result = await crash_everywhere(tmp_path, f"{int(started)}", variables, tell)
    tell(f"{len(result.deaths)} points passed in {result.rounds} rounds, {len(result.never)} never reached:")
    for point in result.never:
        tell(f"  {point}")
    account = result.account
    assert account is not None
    tell(str(account.as_dict()))
    assert result.left == ""
    assert result.unexplained == []
    assert account.discrepancies == []
    assert len(result.deaths) > 100
