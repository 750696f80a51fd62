"""Redis servers with TLS, users and Sentinels, from Debian's package: the embedded one was built without TLS."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from tests.processes import installed, serving
from tests.tls_files import Certificates
from vision_app.stack.ports import choose

ADMIN, PASSWORD = "canary-admin", "canary-word"
GUIDE = Path(__file__).parent.parent / "docs" / "connecting.md"
MASTER = "main-redis"


def least_rights(heading: str = "the worker") -> list[str]:
    """The arguments of `ACL SETUSER` in the guide, for the worker or the operators' commands."""
    found = re.search(rf"# {heading}\n(ACL SETUSER .*?)\n(?:\n|```|#)", GUIDE.read_text(), re.DOTALL)
    assert found, f"docs/connecting.md shows no ACL for {heading}"
    return found[1].replace("\\\n", " ").replace("PASSWORD", PASSWORD).split()[2:]


class SecureRedis:
    """A server that speaks only TLS unless `plain`, and wants a certificate of its clients if `mutual`."""

    def __init__(self, folder: Path, made: Certificates, pair: tuple[Path, Path] | None = None) -> None:
        self.folder, self.made, self.pair = folder, made, pair or made.server
        self.port, self.plain_port = choose(set()), 0
        self.mutual, self.cluster = True, False
        self.master: SecureRedis | None = None

    def lines(self) -> list[str]:
        lines = [
            "bind 127.0.0.1",
            f"port {self.plain_port}",
            "appendonly yes",
            f"dir {self.folder}",
            f"requirepass {ADMIN}",
            f"masterauth {ADMIN}",
            "maxmemory-policy noeviction",
            "repl-diskless-sync-delay 0",
            "replica-announce-ip localhost",
        ]
        lines += self.tls(self.port)
        if self.master is not None:
            lines.append(f"replicaof localhost {self.master.port}")
        return [*lines, "cluster-enabled yes"] if self.cluster else lines

    def tls(self, port: int) -> list[str]:
        return [
            f"tls-port {port}",
            f"tls-cert-file {self.pair[0]}",
            f"tls-key-file {self.pair[1]}",
            f"tls-ca-cert-file {self.made.ca}",
            f"tls-auth-clients {'yes' if self.mutual else 'no'}",
            "tls-replication yes",
        ]

    @contextmanager
    def running(self, more: Sequence[str] = ()) -> Iterator[SecureRedis]:
        configuration = self.folder / "redis.conf"
        configuration.write_text("\n".join([*self.lines(), *more]) + "\n")
        command = [installed("redis-server"), str(configuration)]
        with serving(command, self.port or self.plain_port, self.folder / "redis.log"):
            yield self

    def admin(self) -> redis.Redis:
        """A client that may do everything."""
        if not self.port:
            return redis.Redis(port=self.plain_port, password=ADMIN, decode_responses=True)
        return redis.Redis(
            host="localhost",
            port=self.port,
            password=ADMIN,
            decode_responses=True,
            ssl=True,
            ssl_ca_certs=str(self.made.ca),
            ssl_certfile=str(self.made.client[0]),
            ssl_keyfile=str(self.made.client[1]),
        )

    def set_user(self, *rights: str) -> None:
        """Change the rights of the user `vision`; without arguments, it gets the least rights."""
        with self.admin() as client:
            client.execute_command("ACL", "SETUSER", "vision", *(rights or ("reset", *least_rights()[1:])))

    def settings(self, **changes: Any) -> dict[str, Any]:
        """The settings that lead here, as the user `vision`."""
        return {
            "redis_url": f"rediss://vision:{PASSWORD}@localhost:{self.port}/0",
            "redis_ca_file": self.made.ca,
            "redis_cert_file": self.made.client[0],
            "redis_key_file": self.made.client[1],
            **changes,
        }


@contextmanager
def sentinel(folder: Path, server: SecureRedis, password: str) -> Iterator[int]:
    """A Sentinel over TLS that watches `server`; yields its port."""
    port = choose({server.port})
    configuration = folder / "sentinel.conf"
    lines = ["bind 127.0.0.1", "port 0", f"dir {folder}", f"requirepass {password}", *server.tls(port)]
    lines += ["sentinel resolve-hostnames yes", "sentinel announce-hostnames yes"]
    lines += [f"sentinel monitor {MASTER} localhost {server.port} 1", f"sentinel auth-pass {MASTER} {ADMIN}"]
    lines += [f"sentinel down-after-milliseconds {MASTER} 1000", f"sentinel failover-timeout {MASTER} 5000"]
    configuration.write_text("\n".join(lines) + "\n")
    with serving([installed("redis-server"), str(configuration), "--sentinel"], port, folder / "sentinel.log"):
        yield port


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.05)
