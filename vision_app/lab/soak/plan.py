"""What a soak run sends and breaks, and when: random from a seed, so that a run can be repeated. Pure.

Times are fractions of the run: 0 is the first post, 1 the last.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vision_app.lab.faults import Fault

Kind = Literal["new", "seen", "album", "missing", "repeated", "unreadable", "oversized"]
WorkerSignal = Literal["kill", "terminate", "freeze"]
Disturbance = Literal["kill", "freeze", "restart", "cut", "controller", "rolling"]

SHARES: dict[Kind, int] = {"new": 60, "seen": 15, "album": 8, "missing": 5, "repeated": 8, "unreadable": 4}
"""Per cent of the posts: a new picture, one that the tenant posted before, several, a missing object, published twice,
not JSON. (Only the crash suite has entries that are too large.)
"""
TENANTS = 8
POOR_SHARE = 0.15  # share of the posts from the tenant whose budget runs out
FIRST_SIGNAL, LAST_SIGNAL = 0.03, 0.95
MAX_ALBUM = 4


@dataclass(frozen=True)
class PlannedPost:
    """One post. `pictures` are numbers: the same number is the same picture; a negative one was never uploaded."""

    at: float
    tenant_id: str
    post_id: str
    kind: Kind
    pictures: tuple[int, ...]

    @property
    def publications(self) -> int:
        return 2 if self.kind == "repeated" else 1


@dataclass(frozen=True)
class PlannedSignal:
    """A worker is killed, told to end (SIGTERM), or frozen longer than its session and then continued."""

    at: float
    worker: int
    signal: WorkerSignal


@dataclass(frozen=True)
class PlannedDisturbance:
    """A broker is killed, frozen, restarted or cut off from the others; or the active controller, or each in turn."""

    at: float
    broker: int
    kind: Disturbance


@dataclass(frozen=True)
class PlannedOutage:
    """A service fails in one way for `seconds`."""

    at: float
    service: str
    fault: Fault
    seconds: float


@dataclass(frozen=True)
class SoakPlan:
    """All actions of a run, each list in the order of time. `poor` is the tenant whose budget runs out."""

    posts: Sequence[PlannedPost]
    signals: Sequence[PlannedSignal]
    outages: Sequence[PlannedOutage]
    poor: str
    disturbances: Sequence[PlannedDisturbance] = ()

    @property
    def readable(self) -> list[PlannedPost]:
        return [post for post in self.posts if post.kind not in ("unreadable", "oversized")]

    @property
    def tenants(self) -> list[str]:
        return sorted({post.tenant_id for post in self.posts})


def draw(
    seed: int,
    run: str,
    *,
    posts: int,
    workers: int,
    signals: dict[WorkerSignal, int],
    services: Sequence[str],
    faults: Sequence[Fault],
    outage_seconds: float,
) -> SoakPlan:
    """Draw a run. `services` each fail once, in a way drawn from `faults`. `run` is part of every tenant and post."""
    dice = random.Random(seed)  # noqa: S311 - to be repeatable, not secret
    return SoakPlan(
        posts=_posts(dice, run, posts),
        signals=_planned_signals(dice, workers, signals),
        outages=_outages(dice, services, faults, outage_seconds),
        poor=_tenant(run, 0),
    )


def _tenant(run: str, number: int) -> str:
    return f"soak-{run}-{number}"


def _posts(dice: random.Random, run: str, count: int) -> list[PlannedPost]:
    planned: list[PlannedPost] = []
    pictures = 0
    own: dict[str, list[int]] = {}
    for number in range(count):
        poor = dice.random() < POOR_SHARE
        tenant = _tenant(run, 0 if poor else dice.randrange(1, TENANTS))
        seen = own.setdefault(tenant, [])
        (kind,) = dice.choices(list(SHARES), weights=list(SHARES.values()))
        chosen: tuple[int, ...] = (pictures,)
        if kind == "seen" and seen:
            chosen = (dice.choice(seen),)
        elif kind == "album":
            chosen = tuple(range(pictures, pictures + dice.randint(2, MAX_ALBUM)))
        elif kind == "missing":
            chosen = (-1 - number,)
        fresh = [picture for picture in chosen if picture >= pictures]
        pictures += len(fresh)
        seen += fresh
        planned.append(PlannedPost(number / max(1, count - 1), tenant, f"{run}-{number:05d}", kind, chosen))
    return planned


def _planned_signals(dice: random.Random, workers: int, wanted: dict[WorkerSignal, int]) -> list[PlannedSignal]:
    drawn = [
        PlannedSignal(dice.uniform(FIRST_SIGNAL, LAST_SIGNAL), dice.randrange(workers), signal)
        for signal, count in wanted.items()
        for _ in range(count)
    ]
    return sorted(drawn, key=lambda signal: signal.at)


def draw_disturbances(seed: int, brokers: int, wanted: Mapping[Disturbance, int]) -> list[PlannedDisturbance]:
    """Disturbances of brokers in any order, at an even pace: each waits for the end of the one before."""
    dice = random.Random(f"brokers {seed}")  # noqa: S311 - to be repeatable, not secret
    kinds = [kind for kind, count in wanted.items() for _ in range(count)]
    dice.shuffle(kinds)
    part = (LAST_SIGNAL - FIRST_SIGNAL) / max(1, len(kinds))
    return [
        PlannedDisturbance(FIRST_SIGNAL + part * place, dice.randint(1, brokers), kind)
        for place, kind in enumerate(kinds)
    ]


def _outages(
    dice: random.Random, services: Sequence[str], faults: Sequence[Fault], seconds: float
) -> list[PlannedOutage]:
    """One outage per service, in turn: each has an equal part of the run and starts in the first half of it."""
    order = dice.sample(list(services), len(services))
    part = (LAST_SIGNAL - FIRST_SIGNAL) / max(1, len(order))
    return [
        PlannedOutage(FIRST_SIGNAL + part * (place + dice.uniform(0, 0.5)), service, dice.choice(faults), seconds)
        for place, service in enumerate(order)
    ]
