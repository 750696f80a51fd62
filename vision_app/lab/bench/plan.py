"""What a benchmark publishes, and when. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vision_app.lab.soak.plan import PlannedPost


@dataclass(frozen=True)
class BenchOptions:
    """What to measure. `home` is an empty folder for this run.

    `tenants` together publish `rate` posts a second for `seconds`; with a `flood`, once more after another tenant has
    published that many posts at once. `answers`: shortest and longest time of the provider's answers, in seconds.
    `viewers`: people who have the page open meanwhile.
    """

    home: Path
    seconds: float
    warm_up: float
    tenants: int
    rate: float
    flood: int
    workers: int
    answers: tuple[float, float]
    viewers: int = 0


@dataclass(frozen=True)
class BenchPlan:
    """Each post has one new picture. `phases`: the measured phases, by name and in order."""

    warm_up: Sequence[PlannedPost]
    phases: Mapping[str, Sequence[PlannedPost]]
    flood: Sequence[PlannedPost]

    @property
    def posts(self) -> list[PlannedPost]:
        return [*self.warm_up, *(post for posts in self.phases.values() for post in posts), *self.flood]


def draw(wish: BenchOptions, run: str) -> BenchPlan:
    """Plan a run. `run` is part of every tenant and post."""
    count = max(1, round(wish.rate * wish.seconds))
    warm_up = _steady(wish, run, 0, round(wish.rate * wish.warm_up))
    calm = _steady(wish, run, len(warm_up), count)
    stormy = _steady(wish, run, len(warm_up) + count, count if wish.flood else 0)
    first = len(warm_up) + count + len(stormy)
    flood = [_post(0.0, f"{run}-flood", run, first + number) for number in range(wish.flood)]
    return BenchPlan(warm_up, {"calm": calm} | ({"under flood": stormy} if wish.flood else {}), flood)


def _steady(wish: BenchOptions, run: str, first: int, count: int) -> list[PlannedPost]:
    """The tenants in turn, at an even pace."""
    return [_post(number / count, f"{run}-{number % wish.tenants}", run, first + number) for number in range(count)]


def _post(at: float, tenant_id: str, run: str, number: int) -> PlannedPost:
    return PlannedPost(at, tenant_id, f"{run}-{number:06d}", "new", (number,))
