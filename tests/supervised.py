"""Runs a supervisor (VISION_WORKERS) whose processes are `fake_worker.py`: `supervised.py COUNT FAILURES`. Not a test."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from vision_app.settings import load_settings
from vision_app.telemetry.logging import configure_logging
from vision_app.workers.supervisor import Supervisor

FAKE = str(Path(__file__).with_name("fake_worker.py"))


async def main(count: int, failures: int) -> int:
    return await Supervisor(load_settings(), count, (sys.executable, "-S", "-E", FAKE), failures).run()


if __name__ == "__main__":
    configure_logging(load_settings())
    sys.exit(asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]))))
