"""A stop that hangs ends the process; a stop that ends in time is not disturbed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from vision_app.streams.last_resort import EXIT_STUCK

PROGRAM = """
import time
from vision_app.streams.last_resort import LastResort
resort = LastResort()
resort.arm(0.2)
{then}
time.sleep({seconds})
"""


@pytest.mark.parametrize(
    ("then", "seconds", "code"), [("pass", 60, EXIT_STUCK), ("resort.disarm()", 0.5, 0), ("resort.arm(9)", 0.5, 0)]
)
def test_the_process_ends_unless_the_stop_came_to_its_end(then: str, seconds: float, code: int) -> None:
    program = PROGRAM.format(then=then, seconds=seconds)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert ended.returncode == code
    assert ("stop_timeout" in ended.stdout) == (code == EXIT_STUCK)
