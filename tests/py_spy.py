"""Whether py-spy may sample processes here. Without the right to trace them it cannot."""

from __future__ import annotations

import os
import subprocess

from vision_app.lab.bench.profiler import profiler_program


def may_sample() -> bool:
    """Try it with this process, which is not a child of py-spy, as the benchmark's workers are not."""
    command = [profiler_program(), "dump", "--pid", str(os.getpid())]
    return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0
