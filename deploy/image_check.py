"""Runs the worker's image as docker-compose.yml describes it, and the acceptance guide's commands against it.

Called by image_check.sh inside a network and a mount namespace of its own: `image_check.py CONFIG.json IMAGE`, where
CONFIG.json is what `docker compose config` printed. Worker and simulator run in the image, entered by buildah, with the
compose file's environment. Redis, Kafka and S3 run with the compose file's commands and settings but from the embedded
stack's programs; Postgres and Neo4j are the embedded ones. All listen under the compose file's names and ports.
Not here: what no Docker engine means for limits, volumes and restarts (docs/deployment.md says so).
"""

# ruff: noqa: S603, S607 - every command here is our own

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from vision_app.stack.client import running_stack
from vision_app.stack.home import Home
from vision_app.stack.instance import Instance
from vision_app.stack.jars import classpath
from vision_app.stack.java import Java
from vision_app.stack.kafka import tool_logging
from vision_app.stack.redis import server_program
from vision_app.stack.s3 import program as rclone

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "tests" / "acceptance" / "guide.md").read_text()
READY_SECONDS = 120
USER_ID = 10001
NAMES = ("worker", "redis", "kafka", "postgres", "neo4j", "s3", "gigachat")
POST, TRACE = "guide-post", "test_image_check"
PICTURE = ROOT / "vision_app" / "demo_media" / "photo_cat.jpg"

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
PUBLISH = """
import asyncio, redis.asyncio as redis
from worker.event_bus import EventPublisher
from worker.events.schemas import MediaFile, VisionUploadedEventV1
async def main():
    media = MediaFile(sha256={sha!r}, s3_key={key!r}, mime_type="image/jpeg", size_bytes={size})
    event = VisionUploadedEventV1(post_id={post!r}, tenant_id="default", trace_id={trace!r}, media_files=[media])
    publisher = EventPublisher(await redis.from_url("redis://redis:6379"))
    print(await publisher.publish_event("posts.vision.uploaded", event))
asyncio.run(main())
"""


class Failed(Exception):
    """A check did not hold."""


class Container:
    """One container of the image, with the environment of its compose service."""

    def __init__(self, image: str, service: Mapping[str, Any]) -> None:
        hosts = [f"--add-host={name}:127.0.0.1" for name in NAMES]
        self.id = _output("buildah", "from", *hosts, image)
        environment = [f"--env={name}={value}" for name, value in (service.get("environment") or {}).items()]
        self.enter = ["buildah", "run", "--isolation", "chroot", "--network", "host", *environment, self.id, "--"]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self.enter, *command], capture_output=True, text=True, timeout=120, check=False)

    def written_outside(self, started: float, *allowed: str) -> list[str]:
        """Files that changed since `started` and that the compose file's read-only root would have refused."""
        root = Path(_output("buildah", "mount", self.id))
        inside = {path.relative_to(root): path for path in root.rglob("*") if not path.is_symlink()}
        return [
            str(name)
            for name, path in inside.items()
            if path.is_file() and path.stat().st_mtime > started and not str(name).startswith((*allowed, "etc/"))
        ]

    def close(self) -> None:
        subprocess.run(["buildah", "rm", self.id], capture_output=True, check=False)


class Check:
    """The whole run: processes started, files made, results told."""

    def __init__(self, config: Mapping[str, Any], image: str, folder: Path) -> None:
        self.services, self.image, self.folder = config["services"], image, folder
        self.cleanup = ExitStack()
        self.failures: list[str] = []
        self.count = 0
        bin_folder = folder / "bin"
        bin_folder.mkdir()
        tools = {"redis-cli": Path(server_program()).with_name("redis-cli"), "rclone": Path(rclone())}
        for name, target in tools.items():
            (bin_folder / name).symlink_to(target)
        self.path = f"{bin_folder}:{os.environ['PATH']}"

    # --- the services -------------------------------------------------------------------------------------------------

    def start_services(self) -> None:
        self._name_hosts()
        home = Home(self.folder / "stack")
        home.root.mkdir()
        Instance(ports={"postgres": 5432, "neo4j": 7687}).save(home)
        password = self.services["neo4j"]["environment"]["NEO4J_AUTH"].partition("/")[2]
        self.cleanup.enter_context(
            running_stack(home.root, ("postgres", "neo4j"), environment={"NEO4J_PASSWORD": password})
        )
        asyncio.run(self._make_database())
        self._start_redis()
        self._start_kafka()
        self._start_s3()

    def _name_hosts(self) -> None:
        """Only in this mount namespace: the compose file's names lead to this machine."""
        hosts = self.folder / "hosts"
        hosts.write_text("".join(f"127.0.0.1 {name}\n" for name in ("localhost", socket.gethostname(), *NAMES)))
        subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)

    async def _make_database(self) -> None:
        """What the official image does from POSTGRES_USER, POSTGRES_DB and POSTGRES_PASSWORD."""
        connection = await asyncpg.connect("postgresql://postgres@postgres:5432/postgres")
        await connection.execute("CREATE ROLE vision LOGIN SUPERUSER PASSWORD 'changeme'")
        await connection.execute("CREATE DATABASE vision OWNER vision")
        await connection.close()

    def _start_redis(self) -> None:
        data = self.folder / "redis"
        data.mkdir()
        command = self.services["redis"]["command"]
        self._start("redis", [server_program(), *command[1:]], cwd=data)
        self._wait_healthy("redis")

    def _start_kafka(self) -> None:
        data, given = self.folder / "kafka", self.services["kafka"]["environment"]
        data.mkdir()
        settings = {_property(n): v for n, v in given.items() if n.startswith("KAFKA_") and n != "KAFKA_HEAP_OPTS"}
        settings["log.dirs"] = str(data / "log")
        (data / "server.properties").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        (data / "log4j2.properties").write_text(tool_logging())
        java = Java("kafka", classpath("kafka", print))
        options = (*given["KAFKA_HEAP_OPTS"].split(), f"-Dlog4j2.configurationFile={data / 'log4j2.properties'}")
        arguments = ("format", "-t", given["CLUSTER_ID"], "-c", str(data / "server.properties"))
        subprocess.run(java.command("kafka.tools.StorageTool", *arguments, options=options), check=True, stdout=2)
        self._start("kafka", java.command("kafka.Kafka", str(data / "server.properties"), options=options))
        tool = "org.apache.kafka.tools.BrokerApiVersionsCommand"
        script, *rest = self.services["kafka"]["healthcheck"]["test"][1].split(" > ")[0].split()
        if script != "/opt/kafka/bin/kafka-broker-api-versions.sh":
            raise Failed(f"the health check of kafka calls {script}, which this check does not know")
        look = java.command(tool, *rest, options=options[-1:])
        _wait("kafka", lambda: subprocess.run(look, capture_output=True, check=False).returncode == 0)

    def _start_s3(self) -> None:
        service, data = self.services["s3"], self.folder / "s3"
        data.mkdir()
        (script,) = service["command"]
        script = _undollared(script).replace("/data", str(data))
        self._start("s3", [*service["entrypoint"], script], environment=service["environment"])
        self._wait_healthy("s3")

    def _start(
        self, name: str, command: list[str], environment: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.Popen[bytes]:
        log = self.cleanup.enter_context((self.folder / f"{name}.log").open("wb"))
        env = os.environ | {"PATH": self.path} | dict(environment or {})
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env, cwd=cwd)
        self.cleanup.callback(_end, process)
        return process

    def _wait_healthy(self, name: str) -> None:
        """By the compose file's own health check, run on this machine."""
        kind, *test = self.services[name]["healthcheck"]["test"]
        command = ["sh", "-c", _undollared(test[0])] if kind == "CMD-SHELL" else test
        env = os.environ | {"PATH": self.path} | (self.services[name].get("environment") or {})
        _wait(name, lambda: subprocess.run(command, env=env, capture_output=True, check=False).returncode == 0)

    # --- the image ----------------------------------------------------------------------------------------------------

    def start_in_image(self, name: str, command: list[str]) -> tuple[Container, subprocess.Popen[bytes]]:
        container = Container(self.image, self.services[name])
        self.cleanup.callback(container.close)
        process = self._start(name, [*container.enter, *command])
        test = self.services[name]["healthcheck"]["test"][1:]
        _wait(name, lambda: container.run(*test).returncode == 0, process)
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

    # --- checks -------------------------------------------------------------------------------------------------------

    def shell(self, script: str, given: str = "") -> str:
        """Run a block as it stands in the guide. Raises Failed when it ends with another code than 0."""
        env = os.environ | {"PATH": self.path}
        command = ["bash", "-o", "pipefail", "-c", script]
        ended = subprocess.run(command, input=given, env=env, capture_output=True, text=True, timeout=300, check=False)
        if ended.returncode:
            raise Failed(f"exit code {ended.returncode}: {(ended.stdout + ended.stderr)[-1500:]}")
        return ended.stdout

    @contextmanager
    def check(self, what: str) -> Iterator[None]:
        self.count += 1
        started = time.monotonic()
        try:
            yield
        except (Failed, AssertionError, OSError, ValueError, subprocess.TimeoutExpired) as fault:
            self.failures.append(what)
            print(f"FAILED  {what}: {type(fault).__name__} {fault}", flush=True)
        else:
            print(f"ok      {what} ({time.monotonic() - started:.1f} s)", flush=True)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def image_command(image: str) -> list[str]:
    """The CMD of the image; `docker compose up` runs it, as the compose file names no other."""
    told = json.loads(_output("buildah", "inspect", "--type", "image", image))["Docker"]["config"]["Cmd"]
    return [str(part) for part in told]


def _property(variable: str) -> str:
    """The image's rule for its variables."""
    return variable.removeprefix("KAFKA_").lower().replace("_", ".")


def _undollared(text: str) -> str:
    return text.replace("$$", "$")


def _wait(name: str, healthy: Callable[[], bool], process: subprocess.Popen[bytes] | None = None) -> None:
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
            child.terminate()
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def block(language: str, containing: str) -> str:
    """The one code block of the guide in that language with that text."""
    (found,) = [text for text in re.findall(rf"```{language}\n(.*?)```", GUIDE, flags=re.DOTALL) if containing in text]
    return str(found)


def expect(condition: object, what: str) -> None:
    if not condition:
        raise Failed(what)


# --- what is checked --------------------------------------------------------------------------------------------------


def check_image(run: Check, worker: Container) -> None:
    with run.check("the image: user, Python, Tesseract with Russian, nothing writable but its home"):
        expect(f"uid={USER_ID}(vision)" in worker.run("id").stdout, "it does not run as vision")
        languages = worker.run("tesseract", "--list-langs").stdout.split()
        expect({"rus", "eng"} <= set(languages), f"Tesseract knows {languages}")
        expect(
            worker.run("sh", "-c", "touch /app/x || touch /opt/venv/x").returncode, "the user may change the programs"
        )
        expect("pip" not in worker.run("sh", "-c", "ls /opt/venv/bin").stdout.split(), "pip was left in the image")
    with run.check("the settings in force are those of the compose file"):
        told = worker.run("vision", "config").stdout
        expect("redis" in told and "changeme" not in told, told)


def check_guide(run: Check) -> None:
    with run.check("step 1: the log says that the task is registered"):
        expect(
            "Vision Analysis task registered with supervisor" in run.shell(block("bash", "Registered task")),
            "not there",
        )
    with run.check("step 2: the feature flag (with -i, which docker exec needs to read the program)"):
        script = block("bash", "feature_flags.vision_enabled")
        expect(run.shell(script.replace("docker exec", "docker exec -i")) == "Vision enabled: True\n", "another answer")
    with run.check("step 3: the snippet as it stands, after `import redis.asyncio as redis`"):
        program = "import redis.asyncio as redis\n" + block("python", "EventPublisher(redis_client)")
        expect("Event published: " in run.shell("docker exec -i worker python3", program), "not published")
    with run.check("step 4: metrics and the stream"):
        told = run.shell(block("bash", "XINFO GROUPS").replace("docker compose logs -f", "true #"))
        expect("vision_analysis_requests_total" in told and "vision_workers" in told, told[-500:])
    with run.check("policy: cat /app/config/vision_policy.yml"):
        expect(
            run.shell(block("bash", "cat /app/config/vision_policy.yml"))
            == (ROOT / "config/vision_policy.yml").read_text(),
            "",
        )
    with run.check("budget metrics"):
        expect("vision_budget_gate_blocks_total" in run.shell(block("bash", "grep budget")), "not exported")


def check_post(run: Check, worker: Container) -> None:
    """One picture through everything that runs in the image, then the guide's own end-to-end script."""
    with run.check("a picture is analyzed: published by the compatibility modules, read over HTTP"):
        sha = _output("sha256sum", str(PICTURE)).split()[0]
        key = f"media/default/{sha[:2]}/{sha}.jpg"
        env = os.environ | {"PATH": run.path} | run.services["s3"]["environment"]
        subprocess.run(["rclone", "copyto", str(PICTURE), f"self:vision/{key}"], env=env, check=True)
        program = PUBLISH.format(sha=sha, key=key, size=PICTURE.stat().st_size, post=POST, trace=TRACE)
        run.shell("docker exec -i worker python3", program)
        ask = block("bash", "api/v1/vision/posts").replace("{post_id}", POST)
        _wait("the analysis", lambda: '"provider": "gigachat"' in run.shell(ask))
    with run.check("step 5: SQL, with every column filled"):
        sql = block("sql", "FROM post_enrichment").replace("your-post-uuid", POST)
        row = asyncio.run(_fetch(sql))
        expect(row is not None and all(value is not None for value in row.values()), str(row))
    with run.check("the picture's node in Neo4j (cypher-shell: a stand-in on the Bolt driver)"):
        _wait("the node", lambda: "ImageContent" in run.shell(block("bash", "cypher-shell")))
    with run.check("step 5: python3 -m worker.scripts.diag_vision"):
        script = block("bash", "worker.scripts.diag_vision").replace("{post_id}", POST)
        expect("gigachat" in run.shell(script).lower(), "no provider told")
    with run.check("the log: every line is JSON, the post is found by its trace"):
        lines = (run.folder / "worker.log").read_text().splitlines()
        logged = [json.loads(line) for line in lines]
        expect(any(line["trace_id"] == TRACE for line in logged), "the trace is not in the log")
    with run.check("test_vision_e2e.py"):
        script = block("bash", "--post-id <uuid>").splitlines()[1]
        told = run.shell(script)
        expect("E2E ТЕСТ ЗАВЕРШЁН" in told, told[-500:])


async def _fetch(sql: str) -> Mapping[str, Any] | None:
    connection = await asyncpg.connect("postgresql://vision:changeme@postgres:5432/vision")
    try:
        return await connection.fetchrow(sql)  # type: ignore[no-any-return]
    finally:
        await connection.close()


def check_end(run: Check, worker: Container, process: subprocess.Popen[bytes], started: float) -> None:
    with run.check("SIGTERM ends the worker in time; it ran as the image's user"):
        below = psutil.Process(process.pid).children(recursive=True)
        (inside,) = [p for p in below if p.cmdline()[1:3] == ["-m", "vision_app"] and p.uids().real == USER_ID]
        print(f"        {inside.memory_info().rss / 1e6:.0f} MB resident", flush=True)
        inside.send_signal(signal.SIGTERM)
        process.wait(75)
        expect(process.returncode == 0, f"exit code {process.returncode}")
    with run.check("nothing was written where the compose file makes the root read-only"):
        written = worker.written_outside(started, "var/lib/vision/", "tmp/")
        expect(not written, f"written: {written[:5]}")


def main() -> int:
    config, image = json.loads(Path(sys.argv[1]).read_text()), sys.argv[2]
    folder = Path(tempfile.mkdtemp(prefix="image-check-"))
    folder.chmod(0o755)  # Postgres runs as a user without rights
    run = Check(config, image, folder)
    try:
        with run.cleanup:
            run.start_services()
            run.start_in_image("gigachat", run.services["gigachat"]["command"])
            started = time.time()
            worker, process = run.start_in_image("worker", image_command(image))
            run.stand_in_for_docker(worker)
            check_image(run, worker)
            check_guide(run)
            check_post(run, worker)
            check_end(run, worker, process, started)
    except Failed as fault:
        run.failures.append(str(fault))
        print(f"FAILED  {fault}")
    if run.failures:
        print(f"{len(run.failures)} failed; logs are in {folder}")
        return 1
    print(f"{run.count} checks passed")
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
