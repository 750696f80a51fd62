"""Runs a supervisor of two `fake_worker.py`: `supervised.py PATIENCE` (JSON, see `Patience`). Not a test."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from vision_app.settings import load_settings
from vision_app.telemetry.logging import configure_logging
from vision_app.workers.supervisor import Patience, Supervisor

FAKE = str(Path(__file__).with_name("fake_worker.py"))


async def main(patience: Patience) -> int:
    return await Supervisor(load_settings(), 2, (sys.executable, "-S", "-E", FAKE), patience).run()


if __name__ == "__main__":
    configure_logging(load_settings())
    sys.exit(asyncio.run(main(Patience(**json.loads(sys.argv[1])))))
