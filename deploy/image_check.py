"""Runs the worker's image as docker-compose.yml describes it, and the acceptance guide's commands against it.

Called by image_check.sh inside a network and a mount namespace of its own: `image_check.py CONFIG.json IMAGE`, where
CONFIG.json is what `docker compose config` printed. How the services run is in image_services.py.
Not checked, without a Docker engine: limits, volumes and restarts (see docs/deployment.md).
"""

# ruff: noqa: S607 - every command here is our own

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psutil
from image_services import Container, Failed, Services, output, wait

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "tests" / "acceptance" / "guide.md").read_text()
USER_ID = 10001
POST, TRACE = "guide-post", "test_image_check"
PICTURE = ROOT / "vision_app" / "demo_media" / "photo_cat.jpg"

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


class Check:
    """The checks of the running services, and which failed."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.failures: list[str] = []
        self.count = 0

    def shell(self, script: str, given: str = "") -> str:
        """Run a block of the guide unchanged. Raises Failed when its exit code is not 0."""
        env = os.environ | {"PATH": self.services.path}
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


def check_post(run: Check) -> None:
    """One picture through everything that runs in the image, then the guide's own end-to-end script."""
    with run.check("a picture is analyzed: published by the compatibility modules, read over HTTP"):
        sha = output("sha256sum", str(PICTURE)).split()[0]
        key = f"media/default/{sha[:2]}/{sha}.jpg"
        env = os.environ | {"PATH": run.services.path} | run.services.of["s3"]["environment"]
        subprocess.run(["rclone", "copyto", str(PICTURE), f"self:vision/{key}"], env=env, check=True)
        program = PUBLISH.format(sha=sha, key=key, size=PICTURE.stat().st_size, post=POST, trace=TRACE)
        run.shell("docker exec -i worker python3", program)
        ask = block("bash", "api/v1/vision/posts").replace("{post_id}", POST)
        wait("the analysis", lambda: '"provider": "gigachat"' in run.shell(ask))
    with run.check("the tenant's budget is answered from the worker's table"):
        told = json.loads(run.shell("curl -fsS http://localhost:8000/api/v1/budget/default"))
        expect(told["spent"] > 0, str(told))
    with run.check("step 5: SQL, with every column filled"):
        sql = block("sql", "FROM post_enrichment").replace("your-post-uuid", POST)
        row = asyncio.run(_fetch(sql))
        expect(row is not None and all(value is not None for value in row.values()), str(row))
    with run.check("the picture's node in Neo4j (cypher-shell: a stand-in on the Bolt driver)"):
        wait("the node", lambda: "ImageContent" in run.shell(block("bash", "cypher-shell")))
    with run.check("step 5: python3 -m worker.scripts.diag_vision"):
        script = block("bash", "worker.scripts.diag_vision").replace("{post_id}", POST)
        expect("gigachat" in run.shell(script).lower(), "no provider told")
    with run.check("the log: every line is JSON, the post is found by its trace"):
        lines = (run.services.folder / "worker.log").read_text().splitlines()
        logged = [json.loads(line) for line in lines]
        expect(any(line["trace_id"] == TRACE for line in logged), "the trace is not in the log")
    with run.check("test_vision_e2e.py"):
        script = block("bash", "--post-id <uuid>").splitlines()[1]
        told = run.shell(script)
        expect("E2E ТЕСТ ЗАВЕРШЁН" in told, told[-500:])


async def _fetch(sql: str) -> Mapping[str, Any] | None:
    connection = await asyncpg.connect("postgresql://vision:changeme@postgres:5432/vision")
    try:
        return await connection.fetchrow(sql)  # type: ignore[no-any-return]  # asyncpg has no types
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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every started process is ended
    config, image = json.loads(Path(sys.argv[1]).read_text()), sys.argv[2]
    folder = Path(tempfile.mkdtemp(prefix="image-check-"))
    folder.chmod(0o755)  # Postgres runs as a user without rights
    services = Services(config, image, folder)
    run = Check(services)
    try:
        with services.cleanup:
            services.start()
            services.start_in_image("gigachat")
            started = time.time()
            worker, process = services.start_in_image("worker")
            services.stand_in_for_docker(worker)
            check_image(run, worker)
            check_guide(run)
            check_post(run)
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
