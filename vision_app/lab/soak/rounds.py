"""The rounds of the crash suite, which lead a worker through as many of its awaits as possible.

A round is a few posts of its own tenants together with one failure. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .plan import Kind, PlannedPost

POSTS: tuple[tuple[Kind, tuple[int, ...]], ...] = (
    ("new", (0,)),
    ("new", (1,)),
    ("seen", (0,)),
    ("album", (2, 3)),
    ("missing", (-1,)),
    ("repeated", (4,)),
    ("unreadable", (5,)),
    ("oversized", (9,)),
)
PICTURES = 10  # picture numbers per round
POOR_POSTS: tuple[tuple[Kind, tuple[int, ...]], ...] = (("new", (6,)), ("new", (7,)), ("new", (8,)))

PROVIDER: tuple[tuple[dict[str, Any], ...], ...] = (
    (),
    ({"endpoint": "chat", "times": 3, "fault": {"kind": "status", "status": 429, "retry_after": 1}},),
    ({"endpoint": "chat", "times": 8, "fault": {"kind": "status", "status": 503}},),
    ({"endpoint": "chat", "times": 2, "fault": {"kind": "malformed", "name": "prose"}},),
    ({"endpoint": "chat", "times": 2, "fault": {"kind": "refusal"}},),
    ({"endpoint": "chat", "times": 2, "fault": {"kind": "status", "status": 400}},),
    ({"endpoint": "chat", "probability": 0.6, "times": 20, "fault": {"kind": "reset"}},),
    ({"endpoint": "chat", "times": 2, "fault": {"kind": "revoke"}},),
    ({"endpoint": "upload", "times": 2, "fault": {"kind": "status", "status": 500}},),
    ({"endpoint": "delete", "times": 3, "fault": {"kind": "status", "status": 500}},),
    ({"endpoint": "oauth", "times": 2, "fault": {"kind": "status", "status": 500}},),
)
SERVICES = ("", "postgres", "neo4j", "s3", "redis", "kafka", "gigachat")
COMMANDS = ("reset", "limit", "deleted key", "pause and resume")
EVENTS = (
    "",
    "endings",
    "errors",
    "a second worker",
    "abandoned entries",
    "poison",
    "errors",
    "a second worker is killed",
    "sampling",
)
ERRORS: tuple[str, ...] = (
    "vision_app.streams.batches:Batches._try#2 6",  # after a sink's write
    "vision_app.streams.batches:Batches._handle#2 2",  # after a batch
    "vision_app.streams.actor:Actor._apply#2 2",  # after an actor's effects
    "vision_app.streams.actor:Actor._apply#2 2 vision_app.streams.outbox:Oversized",
    "vision_app.stores.answers:AnswerStore.save#1 2 vision_app.stores.s3:StoreUnavailable",
    "bridges.redis_in:RedisIn._relay#6 1",  # after entries were passed on
)
"""Errors that nothing outside the worker can cause, in the format of `crash_points`."""


@dataclass(frozen=True)
class Round:
    """One round. `service` fails for a moment, "" for none. `ocr`: a tenant without money gets OCR.

    `event`: the worker is told to end again and again; it raises injected errors; a second worker joins and leaves, or
    is killed during its calls; another consumer has read entries and left them; unreadable records are in the worker's
    own topics; or the albums of a tenant that has spent something are sampled.
    """

    posts: Sequence[PlannedPost]
    tenant: str
    poor: str
    rules: Sequence[dict[str, Any]]
    service: str
    command: str
    event: str
    ocr: bool


def nth(run: str, number: int) -> Round:
    """Round `number`, from 0."""
    tenant, poor = f"crash-{run}-{number}", f"crash-{run}-{number}-poor"
    first = number * PICTURES
    wanted = [(tenant, *post) for post in POSTS] + [(poor, *post) for post in POOR_POSTS]
    posts = [
        PlannedPost(0.0, owner, f"{run}-{number:03d}-{place:02d}", kind, tuple(_shifted(at, first) for at in pictures))
        for place, (owner, kind, pictures) in enumerate(wanted)
    ]
    return Round(
        posts=posts,
        tenant=tenant,
        poor=poor,
        rules=PROVIDER[number % len(PROVIDER)],
        service=SERVICES[number % len(SERVICES)],
        command=COMMANDS[number % len(COMMANDS)],
        event=EVENTS[number % len(EVENTS)],
        ocr=number % 3 == 2,
    )


def _shifted(picture: int, first: int) -> int:
    return picture + first if picture >= 0 else picture - first
