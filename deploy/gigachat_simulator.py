"""The GigaChat simulator for the compose profile `demo`: listens inside its container, for the compose network only.

Its own command line accepts loopback addresses only, since /admin is open; here the compose network protects it.
"""

from __future__ import annotations

import asyncio
import signal

from vision_app.simulator.config import SimulatorConfig
from vision_app.simulator.server import running_simulator

HOST, PORT = "0.0.0.0", 8085  # noqa: S104 - not published; see docker-compose.yml


async def main() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running_simulator(SimulatorConfig(), HOST, PORT) as simulator:
        print(f"GigaChat simulator listening at {simulator.origin}", flush=True)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main())
