"""Where the interpreter's time goes: from the stacks that py-spy records to shares, milliseconds, table and JSON."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.py_spy import may_sample
from vision_app.lab.bench.profile_parts import (
    HTTP,
    OURS,
    PARTS,
    REST,
    Profile,
    count_parts,
    merge_repeats,
    part_of,
)
from vision_app.lab.bench.profile_report import as_json, show
from vision_app.lab.bench.profiler import SUFFIX, Profiler
from vision_app.stack.errors import StackError

ROOT = (
    "thread (17472): MainThread",
    "_run_code (<frozen runpy>:88)",
    "<module> (vision_app/__main__.py:32)",
    "App.main (faust/app/base.py:823)",
    "Command.run_using_worker (faust/cli/base.py:644)",
    "Worker.execute_from_commandline (mode/worker.py:264)",
)
GENERIC = [
    "ResponseHandler.data_received (aiohttp/client_proto.py:9)",
    "Handle._run (asyncio/events.py:80)",
    "_AsyncGeneratorContextManager.__aenter__ (contextlib.py:210)",
    "dumps (json/__init__.py:231)",
    "HMAC._init_hmac (hmac.py:69)",
    "urlsplit (urllib/parse.py:1)",
    "<lambda> (<string>:3)",
    "_ignoring_loss.<locals>.written (vision_app/streams/event_loop.py:52)",
]
SAMPLED = {
    "S3": "ObjectRequests._sign (vision_app/clients/s3_objects.py:121)",
    "GigaChat": "GigaChat._raw (vision_app/providers/gigachat.py:218)",
    "Kafka and Faust": "Topic.send (faust/topics.py:190)",
    "Neo4j": "AsyncTransaction.run (neo4j/_async/work/transaction.py:3)",
    "Postgres": "Connection.execute (asyncpg/connection.py:3)",
    "Redis": "AbstractConnection._send (redis/asyncio/connection.py:4)",
    "models": "TypeAdapter.validate_json (pydantic/type_adapter.py:4)",
    "logs and metrics": "Logger.info (logging/__init__.py:1489)",
    OURS: "Analyst._call (vision_app/analysis/analyst.py:153)",
}
FRAMES = st.sampled_from([*SAMPLED.values(), *GENERIC])
STACKS = st.lists(st.tuples(st.lists(FRAMES, min_size=1, max_size=6), st.integers(1, 1000)), max_size=8)


# --- rules ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("part", "frame"), SAMPLED.items())
@given(generic=st.lists(st.sampled_from(GENERIC), max_size=4))
def test_a_module_that_everybody_uses_counts_for_its_caller(part: str, frame: str, generic: list[str]) -> None:
    caller = SAMPLED["Neo4j" if part == "S3" else "S3"]
    assert part_of([*ROOT, caller, frame, *generic]) == part


@pytest.mark.parametrize(
    ("stack", "part"),
    [
        (["upload (vision_app/clients/gigachat_http.py:1)", "write (asyncio/streams.py:4)"], "GigaChat"),
        (["_acquire (vision_app/providers/slots.py:1)", "loads (json/__init__.py:4)"], "Redis"),
        (["RedisIn._relay_entry (bridges/redis_in.py:439)"], OURS),
        (["write (vision_app/stores/postgres.py:1)"], "Postgres"),
        (["PostDocumentSink.write (vision_app/stores/post_documents.py:53)"], "S3"),
        (["BoundLogger.info (structlog/stdlib.py:222)"], "logs and metrics"),
        (["Summarising.emit (vision_app/telemetry/repetition.py:72)"], "logs and metrics"),
        (["decide (agents/posts.py:1)", "winners.<locals>.<listcomp> (vision_app/stores/ordering.py:49)"], OURS),
        (["ServiceThread._serve (mode/threads.py:12)", "Handle._run (asyncio/events.py:80)"], "Kafka and Faust"),
        (["ResponseHandler.data_received (aiohttp/client_proto.py:9)", "feed (email/feedparser.py:1)"], HTTP),
        (["BaseEventLoop._run_once (asyncio/base_events.py:1922)"], REST),
        (["<module> (vision_app/lab/bench/relay_alone.py:60)", "run (asyncio/runners.py:190)"], REST),
        (["run (redistribution/client.py:1)"], REST),
        ([], REST),
    ],
)
def test_the_innermost_frame_that_a_rule_names_decides(stack: list[str], part: str) -> None:
    assert part_of([*ROOT, *stack]) == part
    assert part in PARTS


@given(STACKS)
def test_the_parts_add_up_to_all_samples(stacks: list[tuple[list[str], int]]) -> None:
    found = count_parts(f"{';'.join([*ROOT, *stack])} {samples}\n" for stack, samples in stacks)
    assert sum(found.values()) == sum(samples for _, samples in stacks)
    assert found.keys() <= set(PARTS)
    for part in PARTS:
        assert found[part] == sum(samples for stack, samples in stacks if part_of(stack) == part)


@given(STACKS, st.floats(1, 10_000), st.integers(1, 500))
def test_shares_add_up_to_one_and_milliseconds_to_those_of_a_post(
    stacks: list[tuple[list[str], int]], cpu_ms: float, posts: int
) -> None:
    one = Profile("any", count_parts(f"{';'.join(stack)} {samples}" for stack, samples in stacks), cpu_ms, posts)
    assert sum(one.share(part) for part in PARTS) == pytest.approx(1 if stacks else 0)
    if stacks:
        assert sum(one.ms_a_post(part) or 0 for part in PARTS) == pytest.approx(cpu_ms / posts)


def test_what_is_no_folded_stack_is_refused() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        count_parts(['<?xml version="1.0" standalone="no"?>\n'])


# --- table and JSON ---------------------------------------------------------------------------------------------------

NEW = Profile("capacity: new picture", {"S3": 300, OURS: 700}, 4000, 200)
SHARED = Profile("scaling-2: new picture", {"S3": 1, HTTP: 1}, 4000)


def shown(*profiles: Profile) -> str:
    written = io.StringIO()
    show(Console(file=written, width=150), profiles)
    return written.getvalue()


def test_repeats_are_one_row() -> None:
    [both] = merge_repeats([NEW, Profile(NEW.name, {"S3": 100, HTTP: 100}, 2000, 200)])
    assert (both.samples, both.cpu_ms_a_post) == ({"S3": 400, OURS: 700, HTTP: 100}, 15)


def test_repeats_of_which_one_has_no_processor_time_have_none_together() -> None:
    [both] = merge_repeats([NEW, Profile(NEW.name, {"S3": 100}, 0.0, 200)])
    assert (both.all_samples, both.cpu_ms_a_post) == (1100, None)


def test_the_table_shows_per_cent_and_below_milliseconds_where_they_are_known() -> None:
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown(NEW, SHARED).splitlines() if "│" in line]
    upper, lower, shared, last = rows[-4:]
    columns = ["samples", *PARTS]
    assert dict(zip(columns, upper[1:], strict=True)) == {
        **dict.fromkeys(PARTS, "0.0"),
        "samples": "1,000",
        "S3": "30.0",
        OURS: "70.0",
    }
    assert [lower[1 + columns.index(name)] for name in ("samples", "S3", OURS)] == ["20.00", "6.00", "14.00"]
    assert (upper[0], lower[0], shared[0], last[0]) == ("capacity:", "new picture", "scaling-2:", "new picture")
    assert (shared[1 + columns.index(HTTP)], set(last[1:])) == ("50.0", {""})


def test_a_measurement_without_samples_has_no_shares() -> None:
    assert "0.0" not in shown(Profile("replay: duplicates", {}, 10, 5))


def test_the_document_has_what_the_table_has() -> None:
    document = as_json([NEW, SHARED])
    assert list(document) == [NEW.name, SHARED.name]
    assert (document[NEW.name]["samples"], document[NEW.name]["cpu_ms_a_post"]) == (1000, 20)
    assert document[NEW.name]["parts"]["S3"] == {"share": 0.3, "ms_a_post": 6}
    assert document[SHARED.name]["parts"][HTTP] == {"share": 0.5, "ms_a_post": None}
    assert all(document[name]["parts"].keys() == set(PARTS) for name in document)


# --- py-spy -----------------------------------------------------------------------------------------------------------

BUSY = """
import json
def deepest(number):
    return json.dumps([number] * 500)
namespace = {"deepest": deepest}
source = "\\n".join(f"def narrow_{n}(): return deepest({n})" for n in range(2000))
exec(compile(source, "narrow.py", "exec"), namespace)
narrow = [namespace[f"narrow_{n}"] for n in range(2000)]
print("ready", flush=True)
while True:
    for each in narrow:
        each()
"""


def test_without_a_folder_nothing_is_profiled() -> None:
    async def run() -> list[Profile]:
        profiler = Profiler()
        async with profiler.of("capacity").profiled("new picture", 1, 5):
            pass
        return profiler.found

    assert asyncio.run(run()) == []


def test_a_running_process_is_sampled_to_its_narrowest_frames(tmp_path: Path) -> None:
    """2,000 functions share the time of one process: each is too narrow for a flame graph of py-spy."""
    if not may_sample():
        pytest.skip("py-spy may not sample processes here")

    async def run(pid: int) -> list[Profile]:
        profiler = Profiler(tmp_path)
        async with profiler.of("capacity").profiled("new picture", pid, 4):
            await asyncio.sleep(1.5)
        return profiler.found

    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE) as busy:
        try:
            assert busy.stdout is not None
            assert busy.stdout.readline() == b"ready\n"
            [found] = asyncio.run(run(busy.pid))
        finally:
            busy.kill()
    file = tmp_path / "capacity" / f"new-picture{SUFFIX}"
    lines = file.read_text("utf-8").splitlines()
    assert (found.name, found.posts) == ("capacity: new picture", 4)
    assert found.all_samples == sum(int(line.rpartition(" ")[2]) for line in lines) > 100
    assert found.samples.keys() == {REST}
    assert found.cpu_ms > 500
    narrow = {frame.partition(" ")[0] for line in lines for frame in line.split(";") if frame.startswith("narrow_")}
    assert len(narrow) > 50


def test_a_failure_of_py_spy_says_what_to_do(tmp_path: Path) -> None:
    async def run(pid: int) -> None:
        async with Profiler(tmp_path).profiled("new picture", pid):
            pytest.fail("the block runs although nothing is recorded")

    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            with pytest.raises(StackError, match=r"py-spy ended with exit code [1-9].* leave out --profile"):
                asyncio.run(run(other.pid))
        finally:
            other.kill()
