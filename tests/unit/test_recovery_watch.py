"""A recovery that stands still ends the process; one that goes on, or waits for Kafka, is left alone."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

from vision_app.streams.recovery_watch import EXIT_STANDSTILL, RecoveryWatch

PROGRAM = """
from types import SimpleNamespace
from vision_app.streams.recovery_watch import RecoveryWatch
recovery = SimpleNamespace(active_remaining_total=lambda: 7)
app = SimpleNamespace(in_recovery=True, tables=SimpleNamespace(recovery=recovery))
watch = RecoveryWatch(app, 120, lambda: False)
for now in (10, 120, {last}):
    watch.look(now)
"""


def ended(last: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(last=last)], capture_output=True, text=True, timeout=50, check=False
    )


def test_a_standstill_ends_the_process_and_says_so() -> None:
    done = ended(131)
    assert done.returncode == EXIT_STANDSTILL
    assert "recovery_stalled" in done.stdout
    assert ended(129).returncode == 0


def test_what_goes_on_or_has_a_reason_is_left_alone() -> None:
    left, away = [9], [False]
    recovery = SimpleNamespace(active_remaining_total=lambda: left[0])
    app: Any = SimpleNamespace(in_recovery=True, tables=SimpleNamespace(recovery=recovery))
    watch = RecoveryWatch(app, 120, lambda: away[0])
    for now in range(0, 1000, 100):  # one record each time
        left[0] -= 1
        watch.look(now)
    left[0], away[0] = 5, True
    for now in range(1000, 2000, 100):
        watch.look(now)
    app.in_recovery, away[0] = False, False
    for now in range(2000, 3000, 100):
        watch.look(now)
