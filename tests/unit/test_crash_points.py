"""Every await of the covered code is a crash point, and a process dies exactly at the chosen one."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import vision_app
from tests.faults.test_crash_points import UNREACHED
from vision_app.lab import crash_points
from vision_app.lab.soak.rounds import ERRORS

SAMPLE = """
import asyncio

async def step(name):
    print(name, flush=True)
    await asyncio.sleep(0)
    return name

async def numbers():
    yield 1

class Worker:
    async def work(self):
        print(await step("first"), await step("second"), flush=True)
        async with asyncio.timeout(5):
            print("inside", flush=True)
        async for number in numbers():
            print("number", number, flush=True)
"""
PACKAGES = (
    *("agents", "bridges", "tables", "vision_app.analysis", "vision_app.streams", "vision_app.stores"),
    *("vision_app.providers", "vision_app.retention", "vision_app.app", "vision_app.kafka_topics"),
)
EXEMPT = {
    "vision_app.app": "starts and ends the parts",
    "vision_app.kafka_topics": "creates what is not there",
    "vision_app.providers.decoders": "no effect outside of the worker",
    "vision_app.providers.gigachat_auth": "a token costs nothing",
    "vision_app.providers.ocr": "no effect outside of the worker",
    "vision_app.stores.audits": "one statement or transaction each; an account without its end counts as cut off",
    "vision_app.stores.costs": "reads",
    "vision_app.stores.post_search": "reads",
    "vision_app.retention.accounts": "one statement each; a listing puts the accounts right",
    "vision_app.retention.cleanup": "deletes what the rules name; the next one goes on",
    "vision_app.retention.keeper": "notes what the accounts are told; a listing puts them right",
    "vision_app.retention.listing": "reads",
    "vision_app.retention.lock": "ends with the connection",
    "vision_app.retention.quota": "one statement each",
    "vision_app.retention.upload": "a command of the operator's",
    "vision_app.stores.migrate": "one transaction each",
    "vision_app.stores.rights": "reads; grants are a command of the operator's",
    "vision_app.stores.repair": "a command of the operator's, one transaction for each thing put back",
    "vision_app.stores.neo4j": "one transaction for a batch",
    "vision_app.stores.post_documents": "one object for a post; the batch comes again",
    "vision_app.stores.postgres": "one transaction for a batch",
    "vision_app.stores.post_actions": "one statement, after the record that it tells of; its log line tells, too",
    "vision_app.stores.posts": "reads",
    "vision_app.stores.s3": "one request for an object",
    "vision_app.stores.whole_letters": "one request for an object, before the letter that names it",
}
"""Modules that need no crash points, and why: no two effects that belong together have an await between them."""
EVERYTHING = ["first", "second", "first second", "inside", "number 1"]


Run = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs the sample with a chosen point. Returns its exit code and output lines."""
    (tmp_path / "sample.py").write_text(SAMPLE)
    script = (
        "import sys, asyncio; from vision_app.lab import crash_points as c; c.COVERED = ('sample',)\n"
        "if sys.argv[1]: c.install(*sys.argv[1:])\n"
        "import sample\n"
        "while True:\n"
        "    try: asyncio.run(sample.Worker().work())\n"
        "    except (c.Injected, LookupError) as error: print(repr(error), flush=True)\n"
        "    else: break"
    )

    def ran(wanted: str, raising: str = "") -> tuple[int, list[str]]:
        root = Path(vision_app.__file__).parent.parent
        environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"}
        done = subprocess.run(
            [sys.executable, "-c", script, wanted, raising], env=environment, capture_output=True, text=True
        )
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        return done.returncode, done.stdout.splitlines()

    return ran


@pytest.fixture
def run_timed(tmp_path: Path) -> Callable[[str], list[str]]:
    """Runs the sample beside a task that prints a line after a second, and ends it two seconds later."""
    (tmp_path / "sample.py").write_text(SAMPLE)
    script = (
        "import sys, asyncio, os, threading; from vision_app.lab import crash_points as c; c.COVERED = ('sample',)\n"
        "c.install('', sys.argv[1])\n"
        "import sample\n"
        "threading.Timer(3, lambda: os._exit(0)).start()\n"
        "async def main():\n"
        "    asyncio.get_running_loop().call_later(1, lambda: print('the loop turns', flush=True))\n"
        "    await sample.Worker().work()\n"
        "asyncio.run(main())"
    )

    def ran(raising: str) -> list[str]:
        root = Path(vision_app.__file__).parent.parent
        environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"}
        done = subprocess.run(
            [sys.executable, "-c", script, raising], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()

    return ran


@pytest.mark.parametrize(
    ("wanted", "seen"),
    [
        ("", EVERYTHING),
        ("sample:Worker.work#1", ["first"]),
        ("sample:Worker.work#2", ["first", "second"]),
        ("sample:Worker.work#3", ["first", "second", "first second"]),
        ("sample:Worker.work#4", ["first", "second", "first second", "inside"]),
    ],
)
def test_a_process_dies_behind_the_wanted_await(run: Run, wanted: str, seen: list[str]) -> None:
    assert run(wanted) == (-signal.SIGKILL if wanted else 0, seen)


def test_started_again_with_one_file_a_process_dies_at_every_point_once(run: Run, tmp_path: Path) -> None:
    passed = tmp_path / "passed"
    deaths = 0
    while run(f"@{passed}")[0]:
        deaths += 1
        assert deaths < 20
    assert sorted(passed.read_text().split()) == sorted(crash_points.points_of(SAMPLE, "sample"))
    assert deaths == 5


def test_a_point_raises_what_it_is_told_and_dies_first(run: Run, tmp_path: Path) -> None:
    raising, passed = tmp_path / "raising", tmp_path / "passed"
    raising.write_text("sample:Worker.work#2 1\nsample:Worker.work#2 2 builtins:LookupError\n")
    others = set(crash_points.points_of(SAMPLE, "sample")) - {"sample:Worker.work#2"}
    passed.write_text("".join(f"{point}\n" for point in others))
    assert run(f"@{passed}", f"@{raising}") == (-signal.SIGKILL, ["first", "second"])
    code, lines = run(f"@{passed}", f"@{raising}")
    before = ["first", "second"]
    assert [line.partition("(")[0] for line in lines] == [
        *(*before, "Injected"),
        *(*before, "LookupError") * 2,
        *EVERYTHING,
    ]
    assert code == 0


def test_a_point_hangs_or_blocks_the_loop(run_timed: Callable[[str], list[str]], tmp_path: Path) -> None:
    raising = tmp_path / "raising"
    raising.write_text("sample:Worker.work#2 1 hang\n")
    assert run_timed(f"@{raising}") == ["first", "second", "the loop turns"]
    raising.write_text("sample:Worker.work#2 1 block\n")
    assert run_timed(f"@{raising}") == ["first", "second"]


def test_an_unknown_point_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="names no await"):
        crash_points.install("agents.analysis:nothing#1")
    (tmp_path / "raising").write_text("agents.analysis:nothing#1 2")
    with pytest.raises(ValueError, match=r"VISION_RAISE_AT: .* names no await"):
        crash_points.install(crash_points.points()[0], f"@{tmp_path / 'raising'}")


def test_the_errors_of_the_crash_suite_can_be_raised(tmp_path: Path) -> None:
    known = set(crash_points.points())
    for line in ERRORS:
        point, times, *named = line.split()
        assert point in known
        assert int(times) > 0
        for name in named:
            module, _, exception = name.partition(":")
            assert issubclass(getattr(importlib.import_module(module), exception), Exception)


def test_every_await_of_the_covered_code_is_a_point() -> None:
    """Counted independently; an `await` in a form without a point (an asynchronous comprehension) fails here."""
    found = Counter(point.partition(":")[0] for point in crash_points.points())
    assert found == {name: count for name, count in _awaits().items() if count}
    assert found["vision_app.analysis.analyst"] + found["vision_app.analysis.caller"] > 30


def test_what_the_worker_awaits_is_covered_or_needs_no_points() -> None:
    """A new module with effects of its own must be added to the one list or the other."""
    waiting = {
        name: sum(_waits(node) for node in ast.walk(ast.parse(path.read_text())))
        for package in PACKAGES
        for name, path in _files(package)
    }
    known = {name for name, count in waiting.items() if count}
    covered = {name for package in crash_points.COVERED for name, _ in _files(package)}
    assert known - covered == EXEMPT.keys()


def test_what_the_crash_suite_need_not_reach_is_there() -> None:
    assert UNREACHED.keys() <= set(crash_points.points())


def _awaits() -> dict[str, int]:
    return {
        name: sum(_waits(node) for node in ast.walk(ast.parse(path.read_text())))
        for package in crash_points.COVERED
        for name, path in _files(package)
    }


def _files(name: str) -> Iterator[tuple[str, Path]]:
    """The modules of a package, or the one module."""
    spec = importlib.util.find_spec(name)
    assert spec
    assert spec.origin
    root, path = Path(vision_app.__file__).parent.parent, Path(spec.origin)
    for file in path.parent.glob("*.py") if path.name == "__init__.py" else [path]:
        yield ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"), file


def _waits(node: ast.AST) -> bool:
    return isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith) or getattr(node, "is_async", 0) == 1
