"""Which client or layer takes how much of the interpreter's time: pure, from the stacks that `profiler.py` records.

The innermost frame that a rule names decides about a sample. Modules that everybody uses (asyncio, aiohttp, json …) are
in no rule: their time belongs to the function that called them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

OURS = "our own code"
HTTP = "HTTP"
REST = "event loop and the rest"
_RULES = (
    # not the frames that start a worker: they are outside of everything
    ("Kafka and Faust", r"(aiokafka|faust|mode)/(?!worker\.py|cli/|app/base\.py)|vision_app/clients/kafka"),
    ("S3", r"(botocore|aiobotocore|aioboto3)/|vision_app/(stores/(s3|answers|post_documents)|clients/s3)"),
    ("GigaChat", r"vision_app/(providers|clients)/gigachat"),
    ("Neo4j", r"neo4j/|vision_app/(stores|clients)/neo4j"),
    ("Postgres", r"asyncpg/|vision_app/(stores/(postgres|rows)|clients/postgres)"),
    ("Redis", r"redis/|vision_app/(stores/redis_announcer|clients/redis|providers/slots)"),
    ("models", r"pydantic/"),
    ("logs and metrics", r"(structlog|logging|prometheus_client)/|vision_app/telemetry/"),
    # not what starts a process, nor the wrapper around every write to a socket
    (OURS, r"vision_app/(?!__main__\.py|lab/|streams/event_loop\.py)|agents/|bridges/|tables/"),
)
PARTS = (*(part for part, _ in _RULES), HTTP, REST)
_PATTERNS = [(part, re.compile(pattern)) for part, pattern in _RULES]
_FILE = re.compile(r"\(([^():]+)(?::\d+)?\)$")
_AIOHTTP = "aiohttp/"


@dataclass(frozen=True)
class Profile:
    """One measurement of one process. `samples`: of each part.

    `cpu_ms`: processor time of this process meanwhile, without its decoders. `posts`: those it worked on, or 0 where
    that is not known.
    """

    name: str
    samples: Mapping[str, int]
    cpu_ms: float = 0.0
    posts: int = 0

    @property
    def all_samples(self) -> int:
        return sum(self.samples.values())

    @property
    def cpu_ms_a_post(self) -> float | None:
        return self.cpu_ms / self.posts if self.posts and self.cpu_ms else None

    def share(self, part: str) -> float:
        """Between 0 and 1."""
        return self.samples.get(part, 0) / self.all_samples if self.all_samples else 0.0

    def ms_a_post(self, part: str) -> float | None:
        """The part's share of the processor time of a post."""
        whole = self.cpu_ms_a_post
        return None if whole is None or not self.all_samples else whole * self.share(part)


def part_of(stack: Sequence[str]) -> str:
    """Which of PARTS a sample belongs to. `stack`: the outermost frame first."""
    files = [_file_of(frame) for frame in reversed(stack)]
    for file in files:
        part = _part_of_file(file)
        if part is not None:
            return part
    return HTTP if any(file.startswith(_AIOHTTP) for file in files) else REST


def count_parts(folded: Iterable[str]) -> Counter[str]:
    """The samples of each part. `folded`: lines of py-spy's raw format, `frame;frame;… samples`."""
    found: Counter[str] = Counter()
    for line in folded:
        stack, _, samples = line.rstrip("\n").rpartition(" ")
        found[part_of(stack.split(";"))] += int(samples)
    return found


def merge_repeats(profiles: Iterable[Profile]) -> list[Profile]:
    """One profile of those with the same name, in the order of the first ones."""
    merged: dict[str, Profile] = {}
    for one in profiles:
        before = merged.get(one.name)
        if before is None:
            merged[one.name] = one
            continue
        samples = Counter(before.samples) + Counter(one.samples)
        is_known = before.cpu_ms_a_post is not None and one.cpu_ms_a_post is not None
        posts = before.posts + one.posts if is_known else 0
        merged[one.name] = Profile(one.name, samples, before.cpu_ms + one.cpu_ms, posts)
    return list(merged.values())


@lru_cache(maxsize=65_536)
def _file_of(frame: str) -> str:
    """The file of `function (file:line)`, or nothing: the frame of a thread has none."""
    found = _FILE.search(frame)
    return found[1] if found else ""


@lru_cache(maxsize=65_536)
def _part_of_file(file: str) -> str | None:
    return next((part for part, pattern in _PATTERNS if pattern.match(file)), None)
