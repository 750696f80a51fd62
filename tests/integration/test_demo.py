"""`vision demo` as a user runs it: on an empty home, again with a worker killed in the middle, then `vision down`."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from vision_app.stack import client
from vision_app.stack.home import Home

pytestmark = pytest.mark.timeout(600)

SECONDS = 280


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A home of its own, free ports, no settings of this process; whatever still runs at the end is stopped."""
    folder = tmp_path_factory.mktemp("demo")
    api, metrics = _free_ports(2)
    home = folder / ".vision"
    yield {**os.environ, "VISION_HOME": str(home), "VISION_API_PORT": api, "METRICS_PORT": metrics}
    client.stop(Home(home))


def _free_ports(count: int) -> list[str]:
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [str(server.getsockname()[1]) for server in taken]


def vision(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from vision_app.cli import main; main()", *arguments]
    folder = Path(environment["VISION_HOME"]).parent
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )


def demo(environment: dict[str, str], *arguments: str) -> dict[str, Any]:
    """The document of a demo that must end well."""
    ended = vision(environment, "demo", "--json", *arguments)
    assert ended.returncode == 0, f"{ended.stderr}\n{ended.stdout}"
    assert "GigaChat is SIMULATED" in ended.stderr
    document: dict[str, Any] = json.loads(ended.stdout)
    return document


def processes_of(home: str) -> list[str]:
    """The command lines of all processes that serve a home, known by their command line or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            if process.pid != os.getpid() and (home in command or process.environ().get("VISION_HOME") == home):
                found.append(command)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def test_demo_then_down(environment: dict[str, str]) -> None:
    first = demo(environment)
    assert (first["ok"], first["simulated"], first["hanging"]) == (True, True, [])
    posts = {post["name"]: post for post in first["posts"]}
    assert [len(post["events"]) for post in posts.values()] == [1] * 9
    assert posts["missing"]["status"] == "skipped"
    assert [item["status"] for item in posts["five"]["enrichments"]] == ["analyzed"] * 3 + ["skipped", "analyzed"]
    assert {check["name"]: check["faults"] for check in first["checks"] if not check["ok"]} == {}
    assert all(budget["spent"] == budget["billed_tokens"] > 0 for budget in first["budgets"])

    second = demo(environment)
    assert {post["post_id"] for post in second["posts"]}.isdisjoint(post["post_id"] for post in first["posts"])
    _down(environment)


@pytest.mark.load
def test_demo_with_a_killed_worker(environment: dict[str, str]) -> None:
    """Chaos, on a fresh home and so on fresh topics, where most partitions have no committed offset yet."""
    killed = demo(environment, "--kill-worker")
    assert killed["killed"] == "worker-1"
    status = json.loads(vision(environment, "status", "--json").stdout)
    worker = next(service for service in status["services"] if service["name"] == "worker-1")
    assert (worker["state"], worker["restarts"]) == ("ready", 1)
    _down(environment)


LO_UP = (
    "import fcntl, os, socket, struct, sys; "
    "fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh', b'lo', 0x1 | 0x40)); "  # SIOCSIFFLAGS, UP and RUNNING
    "socket.sethostname('unknown-here'); "  # as on a machine whose own name only its network's name server knows
    "os.execvp(sys.argv[1], sys.argv[1:])"
)


def _without_network() -> list[str]:
    """What to put before a command so that it has no interface but lo. Skips where that is not allowed."""
    own = [] if os.geteuid() == 0 else ["--user", "--map-current-user", "--keep-caps"]
    prefix = ["unshare", "--net", "--uts", *own, sys.executable, "-c", LO_UP]
    if not shutil.which("unshare") or subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("network namespaces are not allowed here; run the tests as root on Linux")
    return prefix


def test_a_second_start_needs_no_network(environment: dict[str, str]) -> None:
    """Nothing but lo: the environment is not installed again, nothing is downloaded, every post ends as expected."""
    prefix = _without_network()
    root = Path(__file__).parents[2]
    installed = subprocess.run(
        [*prefix, sys.executable, root / "scripts" / "install.py", "requirements-demo.lock"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (installed.returncode, installed.stdout, installed.stderr) == (0, "", "")
    command = [*prefix, sys.executable, "-c", "from vision_app.cli import main; main()", "demo", "--json", "--down"]
    folder = Path(environment["VISION_HOME"]).parent
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert ended.returncode == 0, f"{ended.stderr}\n{ended.stdout}"
    assert json.loads(ended.stdout)["ok"] is True
    assert "downloading" not in ended.stderr


def _down(environment: dict[str, str]) -> None:
    assert processes_of(environment["VISION_HOME"]) != []
    assert vision(environment, "down").returncode == 0
    assert processes_of(environment["VISION_HOME"]) == []
