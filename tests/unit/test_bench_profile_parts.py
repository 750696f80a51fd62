"""The shares of an interpreter's time, read from a flame graph as py-spy writes it."""

from __future__ import annotations

import html
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_app.lab.bench.profile_parts import OURS, PARTS, REST, part_of, shares, shares_in, stacks

Tree = dict[tuple[str, ...], int]
ROOT = ("<module> (vision_app/__main__.py:9)", "Worker.execute_from_commandline (mode/worker.py:140)")


def drawn(own: Mapping[tuple[str, ...], int]) -> str:
    """A flame graph of these stacks, in the form of py-spy: one <g> a frame, none in the order of depth."""
    inclusive: dict[tuple[str, ...], int] = {}
    for stack, samples in own.items():
        for depth in range(len(stack) + 1):
            inclusive[stack[:depth]] = inclusive.get(stack[:depth], 0) + samples
    places: dict[tuple[str, ...], int] = {(): 0}
    for stack in sorted(inclusive, key=len):
        at = places[stack]
        for other in sorted(one for one in inclusive if len(one) == len(stack) + 1 and one[:-1] == stack):
            places[other], at = at, at + inclusive[other]
    frames = []
    for stack, width in sorted(inclusive.items()):
        name = html.escape(stack[-1] if stack else "all", quote=False)
        y = 52 + 16 * len(stack)
        frames.append(
            f'<g><title>{name} ({width:,} samples, 10.00%)</title><rect x="0.0000%" y="{y}" width="10.0000%" '
            f'height="15" fill="rgb(227,0,7)" fg:x="{places[stack]}" fg:w="{width}"/><text x="0.2500%" y="{y + 10}.50">'
            f"{name}</text></g>"
        )
    return '<svg><svg id="frames" total_samples="1">' + "".join(frames) + "</svg></svg>"


FRAMES = st.sampled_from(
    ["a (x.py:1)", "b (redis/client.py:2)", "<lambda> (faust/streams.py:3)", "inner.<locals>.f (y.py)"]
)
STACKS = st.dictionaries(st.lists(FRAMES, min_size=1, max_size=4).map(tuple), st.integers(1, 1000), max_size=6)


@given(STACKS)
def test_every_sample_is_found_with_its_stack(own: Tree) -> None:
    found = {stack[1:]: samples for stack, samples in stacks(drawn(own))}
    assert found == own


@given(STACKS)
def test_the_shares_are_those_of_the_samples(own: Tree) -> None:
    found = shares(drawn(own))
    if not own:
        assert found == {}
        return
    assert sum(found.values()) == pytest.approx(1, abs=0.01)
    redis = sum(samples for stack, samples in own.items() if part_of(stack) == "Redis")
    assert found["Redis"] == pytest.approx(redis / sum(own.values()), abs=0.001)


@pytest.mark.parametrize(
    ("stack", "part"),
    [
        (["handle (agents/media.py:9)", "read (vision_app/stores/s3.py:1)", "request (aiohttp/client.py:4)"], "S3"),
        (["upload (vision_app/providers/gigachat.py:1)", "write (asyncio/streams.py:4)"], "GigaChat"),
        (["_acquire (vision_app/providers/slots.py:1)", "run (redis/client.py:4)"], "Redis"),
        (["_fetcher (faust/transport/consumer.py:1)", "wait (asyncio/tasks.py:4)"], "Kafka and Faust"),
        (["decide (agents/posts.py:1)", "decide (vision_app/domain/posts.py:4)"], OURS),
        (["decode (vision_app/messages.py:1)", "validate (pydantic/type_adapter.py:4)"], "models"),
        (
            ["_note (agents/sinks.py:1)", "info (structlog/stdlib.py:4)", "dumps (json/__init__.py:2)"],
            "logs and metrics",
        ),
        (["_draw (vision_app/stores/neo4j.py:1)", "run (neo4j/_async/work/transaction.py:3)"], "Neo4j"),
        (["write (vision_app/stores/postgres.py:1)", "execute (asyncpg/connection.py:3)"], "Postgres"),
        (["data_received (aiohttp/client_proto.py:1)"], REST),
        ([], REST),
    ],
)
def test_the_innermost_frame_that_is_somebodys_decides(stack: list[str], part: str) -> None:
    assert part_of((*ROOT, *stack)) == part
    assert part in PARTS


def test_what_py_spy_writes_is_read(tmp_path: Path) -> None:
    """A busy process of the test, profiled by the program that the benchmark uses."""
    busy = tmp_path / "busy.py"
    busy.write_text("def work():\n    return sum(range(10_000))\nwhile True:\n    work()\n", "utf-8")
    target = tmp_path / "profiles" / "busy.svg"
    target.parent.mkdir()
    spy = Path(sys.executable).with_name("py-spy")
    if not spy.exists():
        pytest.skip("py-spy is not installed: install requirements.lock, as `make test` does")
    command = [str(spy), "record", "--gil", "--duration", "2", "--output", str(target), "--", sys.executable, str(busy)]
    started = subprocess.run(command, capture_output=True, check=False, timeout=60)
    if not target.exists():
        pytest.skip(f"py-spy may not read other processes here: {started.stderr.decode()[-300:]}")
    own = dict(stacks(target.read_text("utf-8")))
    assert sum(own.values()) > 0
    assert any("work (" in frame for stack in own for frame in stack)
    assert shares_in(target.parent).keys() == {"busy"}
