"""What part of the interpreter's time each client and layer takes, read from the flame graphs of `profiler.py`.

The innermost frame that a rule names decides about a sample. Modules that everybody uses (asyncio, aiohttp, json …) are
in no rule: their time belongs to whoever called them.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

OURS = "our own code"
REST = "event loop and the rest"
_RULES = (
    ("Kafka and Faust", r"(aiokafka|faust|mode)/(?!worker\.py|cli/|app/base\.py)|vision_app/clients/kafka"),
    ("S3", r"(botocore|aiobotocore|aioboto3)/|vision_app/(stores/(s3|answers|post_documents)|clients/s3)"),
    ("GigaChat", r"vision_app/(providers|clients)/gigachat"),
    ("Neo4j", r"neo4j/|vision_app/(stores|clients)/neo4j"),
    ("Postgres", r"asyncpg/|vision_app/(stores/(postgres|rows)|clients/postgres)"),
    ("Redis", r"redis/|vision_app/(stores/redis_announcer|clients/redis|providers/slots)"),
    ("models", r"pydantic/"),
    ("logs and metrics", r"(structlog|logging|prometheus_client)/|vision_app/telemetry/"),
    (OURS, r"(vision_app/(?!__main__)|agents/|bridges/|tables/)"),
)
PARTS = (*(part for part, _ in _RULES), REST)
_PATTERNS = [(part, re.compile(pattern)) for part, pattern in _RULES]
_FRAME = re.compile(
    r"<g><title>(?P<name>[^<]*) \([\d,]+ samples?, [\d.]+%\)</title>"
    r'<rect [^>]*y="(?P<y>\d+)"[^>]*fg:x="(?P<x>\d+)" fg:w="(?P<w>\d+)"'
)
_FILE = re.compile(r"\(([^():]+)(?::\d+)?\)$")


def stacks(flame_graph: str) -> Iterator[tuple[tuple[str, ...], int]]:
    """Each stack of a flame graph by py-spy, the outermost frame first, with the samples whose innermost it is."""
    frames = sorted(
        (int(found["y"]), int(found["x"]), int(found["w"]), html.unescape(found["name"]))
        for found in _FRAME.finditer(flame_graph)
    )
    above: list[tuple[int, int, tuple[str, ...]]] = [(0, 1 << 62, ())]
    level: list[tuple[int, int, tuple[str, ...]]] = []
    own: Counter[tuple[str, ...]] = Counter()
    at = frames[0][0] if frames else 0
    for y, x, width, name in frames:
        if y != at:
            above, level, at = level, [], y
        outer = next(stack for start, end, stack in above if start <= x < end)
        stack = (*outer, name)
        level.append((x, x + width, stack))
        own[stack] += width
        own[outer] -= width
    del own[()]
    return ((stack, samples) for stack, samples in own.items() if samples)


def part_of(stack: tuple[str, ...]) -> str:
    """Which of PARTS a sample belongs to."""
    for frame in reversed(stack):
        file = _FILE.search(frame)
        for part, pattern in _PATTERNS:
            if file and pattern.match(file[1]):
                return part
    return REST


def shares(flame_graph: str) -> dict[str, float]:
    """Part → its share of the samples, between 0 and 1. Empty if there are no samples."""
    found: Counter[str] = Counter()
    for stack, samples in stacks(flame_graph):
        found[part_of(stack)] += samples
    total = sum(found.values())
    return {part: round(found[part] / total, 4) for part in PARTS} if total else {}


def shares_in(folder: Path) -> dict[str, dict[str, float]]:
    """The shares of each flame graph below a folder, by its path there without `.svg`."""
    graphs = sorted(folder.rglob("*.svg"))
    return {str(graph.relative_to(folder).with_suffix("")): shares(graph.read_text("utf-8")) for graph in graphs}


def shares_table(found: Mapping[str, Mapping[str, float]]) -> Table:
    """One row for each profile, in per cent."""
    title = "Where the interpreter's time goes: per cent of py-spy's samples that hold it"
    table = Table("profile", title=title, title_justify="left")
    for part in PARTS:
        table.add_column(part, justify="right")
    for name, own in found.items():
        table.add_row(name, *(f"{100 * own[part]:.0f}" if own else "" for part in PARTS))
    return table


def show_profiles(console: Console, folder: Path) -> dict[str, dict[str, float]]:
    """Print the table of a folder. Returns its figures."""
    found = shares_in(folder)
    console.print(shares_table(found))
    return found
