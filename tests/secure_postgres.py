"""Postgres with TLS, passwords and separate roles, and pgbouncer before it: both from Debian's packages.

The embedded Postgres was built without TLS.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from tests.processes import installed, serving
from tests.tls_files import Certificates
from vision_app.stack.environment import plain
from vision_app.stack.ports import choose

PASSWORD = "canary-word"
OWNER, WORKER, SUPERUSER = "vision_owner", "vision", "postgres"
SYSTEM_USER = "postgres"
"""The user that the package makes: Postgres and pgbouncer do not run as root."""


def programs() -> Path:
    """The folder of Debian's Postgres. Skips the test where it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        pytest.skip("Debian's Postgres is not installed; as root on Debian: make tools")
    return found[-1].parent


def as_system_user(*command: str) -> list[str]:
    if os.geteuid():
        return list(command)
    return ["setpriv", f"--reuid={SYSTEM_USER}", f"--regid={SYSTEM_USER}", "--clear-groups", *command]


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that the servers' user can reach, unlike pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="vision-postgres-"))
    folder.chmod(0o755)
    give(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def give(path: Path) -> None:
    if not os.geteuid():
        shutil.chown(path, SYSTEM_USER, SYSTEM_USER)


class SecurePostgres:
    """A server that takes only TLS (unless `tls` is off) and passwords; from WORKER also a certificate."""

    def __init__(self, folder: Path, made: Certificates) -> None:
        self.folder, self.made, self.tls = folder, made, True
        self.port = choose(set())
        self.cluster = folder / "cluster"

    def prepare(self) -> None:
        self.own("ca.pem", self.made.ca)
        self.own("client.pem", self.made.client[0])
        self.own("client.key", self.made.client[1])
        secret = self.own_text("password", PASSWORD)
        command = [str(programs() / "initdb"), "--auth=scram-sha-256", "--encoding=utf8", "--locale=C"]
        command += ["-U", SUPERUSER, f"--pwfile={secret}", "-D", str(self.cluster), "--no-sync"]
        subprocess.run(as_system_user(*command), check=True, capture_output=True, cwd=self.folder, env=plain())

    def own(self, name: str, source: Path) -> Path:
        """A copy of a file that only the servers' user can read."""
        return self.own_text(name, source.read_text())

    def own_text(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)
        give(path)
        return path

    @contextmanager
    def running(self, pair: tuple[Path, Path] | None = None) -> Iterator[SecurePostgres]:
        """The server with this certificate, its usual one unless given."""
        certificate, key = pair or self.made.server
        kind = "hostssl" if self.tls else "host"
        lines = [f"{kind} all {WORKER} 127.0.0.1/32 scram-sha-256{' clientcert=verify-ca' if self.tls else ''}"]
        lines += [f"{kind} all all 127.0.0.1/32 scram-sha-256"]
        (self.cluster / "pg_hba.conf").write_text("\n".join(lines) + "\n")
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "ssl": "on" if self.tls else "off",
            "ssl_ca_file": self.folder / "ca.pem",
            "ssl_cert_file": self.own("server.pem", certificate),
            "ssl_key_file": self.own("server.key", key),
        }
        flags = [flag for name, value in options.items() for flag in ("-c", f"{name}={value}")]
        command = as_system_user(str(programs() / "postgres"), "-D", str(self.cluster), *flags)
        with serving(command, self.port, self.folder / "postgres.log") as process:
            deadline = time.monotonic() + 30
            ready = [str(programs() / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
            while subprocess.run(ready, check=False, env=plain()).returncode:
                assert time.monotonic() < deadline, "Postgres does not take connections"
                time.sleep(0.05)
            yield self
            process.send_signal(signal.SIGINT)  # does not wait for clients to go
            process.wait(20)

    def url(self, user: str = WORKER, options: str | None = None, database: str = "vision", port: int = 0) -> str:
        if options is None:
            options = f"sslmode=verify-full&sslrootcert={self.made.ca}" if self.tls else ""
            if user == WORKER and self.tls:
                options += f"&sslcert={self.made.client[0]}&sslkey={self.made.client[1]}"
        return (
            f"postgresql://{user}:{PASSWORD}@localhost:{port or self.port}/{database}{'?' if options else ''}{options}"
        )

    async def execute(self, *statements: str, user: str = SUPERUSER, database: str = "postgres") -> None:
        connection = await asyncpg.connect(self.url(user, database=database))
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def make_database(self, name: str = "vision") -> None:
        """A database of OWNER's, in which PUBLIC has no right."""
        await self.execute(f"CREATE DATABASE {name} OWNER {OWNER}", f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
        await self.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC", database=name)

    async def make_roles(self) -> None:
        await self.execute(
            *(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'" for role in (OWNER, WORKER)),
        )


@contextmanager
def pgbouncer(server: SecurePostgres, pool_size: int = 2) -> Iterator[int]:
    """pgbouncer before `server`: vision in transaction mode, vision_session in session mode; yields its port."""
    port = choose({server.port})
    folder = server.folder
    users = server.own_text("users.txt", "\n".join(f'"{role}" "{PASSWORD}"' for role in (WORKER, OWNER)) + "\n")
    lines = ["[databases]"]
    target = f"host=localhost port={server.port} dbname=vision"
    lines += [f"vision = {target} pool_size={pool_size}", f"vision_session = {target} pool_mode=session"]
    lines += ["[pgbouncer]", "listen_addr = 127.0.0.1", f"listen_port = {port}", "unix_socket_dir ="]
    lines += ["pool_mode = transaction", "auth_type = scram-sha-256", f"auth_file = {users}"]
    lines += ["server_tls_sslmode = verify-full", f"server_tls_ca_file = {folder / 'ca.pem'}"]
    lines += [f"server_tls_cert_file = {folder / 'client.pem'}", f"server_tls_key_file = {folder / 'client.key'}"]
    lines += ["client_tls_sslmode = require", f"client_tls_cert_file = {folder / 'server.pem'}"]
    lines += [f"client_tls_key_file = {folder / 'server.key'}"]
    configuration = server.own_text("pgbouncer.ini", "\n".join(lines) + "\n")
    command = as_system_user(installed("pgbouncer"), str(configuration))
    with serving(command, port, folder / "pgbouncer.log"):
        yield port
