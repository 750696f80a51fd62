"""What child processes carry in their environment, read from /proc of each process of a started stack."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from vision_app.stack.client import live_state, running_stack
from vision_app.stack.environment import of_a_worker, plain
from vision_app.stack.home import Home
from vision_app.stack.state import StackState

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

SECRETS = {
    "VISION_API_TOKENS": "canary-token-1=t1,canary-token-2=*",
    "NEO4J_PASSWORD": "canary-password-of-neo4j",
    "S3_ACCESS_KEY_ID": "canary-access-key",
    "S3_SECRET_ACCESS_KEY": "canary-secret-key-of-s3",
    "DATABASE_URL_OF_SOMEBODY": "postgresql://canary-foreign-password@nowhere/x",
    "AWS_SECRET_ACCESS_KEY": "canary-foreign-key",
    "SOME_TOKEN": "canary-foreign-token",
    "HTTPS_PROXY": "http://canary-proxy-user:pass@127.0.0.1:1",
    "NO_PROXY": "127.0.0.1",
}
FOREIGN = ("DATABASE_URL_OF_SOMEBODY", "AWS_SECRET_ACCESS_KEY", "SOME_TOKEN")
OWN = {"s3": ("S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY")}
"""What a service may know, under whatever name: S3 checks the keys."""


OVERWRITTEN = ("redis", "postgres")
"""These write their title over their environment; what they were started with is tested with the others' code."""


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackState]:
    home = tmp_path_factory.mktemp("environment")
    with running_stack(home, worker=True, environment=SECRETS):
        found = live_state(Home(home))
        assert found is not None
        yield found


def environment_of(process: psutil.Process) -> str:
    return Path(f"/proc/{process.pid}/environ").read_bytes().decode("utf-8", "replace")


def family(state: StackState, name: str) -> tuple[psutil.Process, list[psutil.Process]]:
    identity = state.service(name).process
    assert identity is not None
    process = identity.process()
    assert process is not None
    return process, process.children(recursive=True)


@pytest.mark.parametrize("name", ["redis", "kafka", "postgres", "neo4j", "s3", "simulator"])
def test_a_service_knows_no_secret_but_its_own(state: StackState, name: str) -> None:
    process, children = family(state, name)
    for member in (process, *children):
        seen = environment_of(member)
        assert "PATH=" in seen or name in OVERWRITTEN
        for variable, secret in SECRETS.items():
            if variable != "NO_PROXY" and variable not in OWN.get(name, ()):
                assert variable not in seen
                assert secret not in seen
                assert "canary-token" not in seen


def test_a_worker_knows_the_settings_and_its_decoders_nothing(state: StackState) -> None:
    process, _ = family(state, "worker-1")
    seen = environment_of(process)
    for variable, secret in SECRETS.items():
        assert (f"{variable}={secret}" in seen) is (variable not in FOREIGN)
    deadline = time.monotonic() + 30
    while not (children := process.children(recursive=True)):
        assert time.monotonic() < deadline, "the worker has no decoders"
        time.sleep(0.1)
    for child in children:
        assert "canary" not in environment_of(child)
        assert "TOKENS" not in environment_of(child)


def test_nothing_is_allowed_by_a_part_of_its_name() -> None:
    given = {"PATH": "/bin", "LC_ALL": "C", "PATHS": "x", "MY_PATH": "x", "LCX": "x", "API_TOKEN": "x", "VISION_X": "x"}
    assert plain(given) == {"PATH": "/bin", "LC_ALL": "C"}
    assert of_a_worker(given) == {"PATH": "/bin", "LC_ALL": "C", "VISION_X": "x"}
    assert of_a_worker({"s3_bucket_name": "b", "S3_BUCKET_X": "x", "http_proxy": "p"}) == {
        "s3_bucket_name": "b",
        "http_proxy": "p",
    }
