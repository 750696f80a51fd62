"""The services of docker-compose.cluster.yml on a machine without Docker, for cluster_check.py.

As image_services.py; the certificates are made in the worker's image by the compose file's command. Three brokers run
with the compose file's settings, Redis and Postgres with its commands, both from Debian's packages: the embedded ones
were built without TLS.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from image_services import Failed, Services, command, unescape_dollars

BROKERS = ("kafka", "kafka-2", "kafka-3")
POSTGRES_USER = 70
"""The user of Postgres' image, to whom certificates.sh gives the key."""


class Cluster(Services):
    """Everything that the two compose files list together, running; ends with `cleanup`."""

    def __init__(self, config: Mapping[str, Any], image: str, folder: Path) -> None:
        super().__init__(config, image, folder)
        self.certificates = folder / "certificates"
        self.certificates.mkdir()
        self.mounts = {"/certificates": self.certificates}
        self.brokers: dict[str, subprocess.Popen[bytes]] = {}
        (folder / "bin" / "redis-cli").unlink()  # so that Debian's is found
        self.postgres_programs = next(Path("/usr/lib/postgresql").glob("*/bin"))
        self.path = f"{self.path}:{self.postgres_programs}"

    def start(self) -> None:
        self.name_hosts()
        self.make_certificates()
        self.start_embedded({"neo4j": 7687})
        self._start_postgres()
        self.start_redis(shutil.which("redis-server"))
        self.brokers = {name: self.start_broker(name) for name in BROKERS}
        for name, process in self.brokers.items():
            self.wait_healthy(name, process)
        self.make_kafka_users()
        self.start_s3()

    def make_certificates(self) -> str:
        """Run the service `certificates`. Returns what it printed."""
        ended = self.container("certificates").run(*command(self.image, self.of["certificates"]))
        if ended.returncode:
            raise Failed(f"certificates: exit code {ended.returncode}: {ended.stderr[-800:]}")
        return ended.stdout

    def make_kafka_users(self) -> None:
        """Run the service `kafka-users`, with our Java in place of the image's script."""
        service, tool = self.of["kafka-users"], self.folder / "kafka-configs.sh"
        java = self.java().command("kafka.admin.ConfigCommand")
        tool.write_text(f'#!/bin/sh\nexec {shlex.join(java)} "$@"\n')
        tool.chmod(0o755)
        (script,) = service["command"]
        script = unescape_dollars(script).replace("/tmp/", f"{self.folder}/")  # noqa: S108 - the container's, not ours
        (script,) = self.here([script.replace("/opt/kafka/bin/kafka-configs.sh", str(tool))])
        env = os.environ | service["environment"]
        ended = subprocess.run(
            [*service["entrypoint"], script], env=env, capture_output=True, text=True, timeout=120, check=False
        )
        if ended.returncode:
            raise Failed(f"kafka-users: exit code {ended.returncode}: {(ended.stdout + ended.stderr)[-800:]}")

    def stop_broker(self, name: str) -> None:
        """End a broker at once, as a machine that fails."""
        process = self.brokers.pop(name)
        process.kill()
        process.wait(20)

    def start_broker_again(self, name: str) -> None:
        self.brokers[name] = self.start_broker(name)
        self.wait_healthy(name, self.brokers[name])

    def _start_postgres(self) -> None:
        """As the image's start script: the user and the database first, then the compose file's command."""
        service, data, socket = self.of["postgres"], self.folder / "postgres", self.folder / "socket"
        for path in (data, socket):
            path.mkdir()
            os.chown(path, POSTGRES_USER, POSTGRES_USER)
        given = service["environment"]
        words = self.folder / "postgres-password"
        words.write_text(given["POSTGRES_PASSWORD"])
        os.chown(words, POSTGRES_USER, POSTGRES_USER)
        users = self.folder / "passwd"  # only in this mount namespace: initdb wants to know its user
        users.write_text(
            f"{Path('/etc/passwd').read_text()}image-postgres:x:{POSTGRES_USER}:{POSTGRES_USER}::/:/bin/sh\n"
        )
        self.call("mount", "--bind", str(users), "/etc/passwd")
        as_user = ["setpriv", f"--reuid={POSTGRES_USER}", f"--regid={POSTGRES_USER}", "--clear-groups"]
        first = ["initdb", f"--pgdata={data}", f"--username={given['POSTGRES_USER']}", f"--pwfile={words}"]
        self.call(*as_user, str(self.postgres_programs / first[0]), *first[1:])
        _, *arguments = self.here(service["command"])
        options = [f"-D{data}", f"-k{socket}", "-clisten_addresses=*"]
        self.run("postgres", [*as_user, str(self.postgres_programs / "postgres"), *options, *arguments])
        self.wait_healthy("postgres")
        self.call("createdb", f"--host={socket}", f"--username={given['POSTGRES_USER']}", given["POSTGRES_DB"])

    def call(self, *words: str, environment: Mapping[str, str] | None = None) -> None:
        """Run a command to its end, with the programs of the services. Raises Failed."""
        env = os.environ | {"PATH": self.path} | dict(environment or {})
        ended = subprocess.run(words, env=env, capture_output=True, text=True, timeout=120, check=False)
        if ended.returncode:
            raise Failed(f"{words}: exit code {ended.returncode}: {ended.stderr[-800:]}")
