"""The figures of a benchmark: median and spread over repeats, ratios to the plain worker, comparison of two runs. Pure.

Absolute figures are those of one machine. What two runs are compared by, also of two machines, is `comparable`: the
ratio to the plain worker, or else the figure in units of the plain worker's processor time for a new picture.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

FORMAT = 1
"""Of the JSON document; `--compare` refuses another."""

Better = Literal["less", "more"]


@dataclass(frozen=True)
class Unit:
    """What a figure counts. `better`: which direction is better; None: it is shown and never compared.

    `scale`: a `time` grows with a slower machine, a `rate` shrinks, and what is `fixed` does not depend on it.
    """

    name: str
    better: Better | None
    scale: Literal["time", "rate", "fixed"]


@dataclass(frozen=True)
class Figure:
    """One figure of one repeat. `plain`: the plain worker's (or the plain way's), of the same repeat."""

    scenario: str
    name: str
    unit: Unit
    value: float
    plain: float | None = None


@dataclass(frozen=True)
class Spread:
    """The middle, the smallest and the largest of the repeats."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Row:
    """One line of the table. `ratio`: ours to the plain worker's, the median of the repeats' ratios."""

    scenario: str
    name: str
    unit: Unit
    ours: Spread
    plain: Spread | None
    ratio: float | None
    goal: float | None
    comparable: float | None

    @property
    def is_reached(self) -> bool | None:
        """Whether the median reaches the goal; None without one."""
        if self.goal is None:
            return None
        return self.ours.median <= self.goal if self.unit.better == "less" else self.ours.median >= self.goal


def rows_of(
    repeats: Sequence[Sequence[Figure]], references_ms: Sequence[float], goals: Mapping[tuple[str, str], float]
) -> list[Row]:
    """A row for each figure, in the order of the first repeat that has it.

    `references_ms`: the plain worker's processor time for a new picture, of each repeat.
    """
    found: dict[tuple[str, str], list[tuple[Figure, float]]] = {}
    for figures, reference in zip(repeats, references_ms, strict=True):
        for figure in figures:
            found.setdefault((figure.scenario, figure.name), []).append((figure, reference))
    return [_row(key, measured, goals.get(key)) for key, measured in found.items()]


def _row(key: tuple[str, str], measured: Sequence[tuple[Figure, float]], goal: float | None) -> Row:
    plain = [one.plain for one, _ in measured if one.plain is not None]
    ratios = [one.value / one.plain for one, _ in measured if one.plain]
    comparable = [value for one, reference in measured if (value := _comparable(one, reference)) is not None]
    return Row(
        scenario=key[0],
        name=key[1],
        unit=measured[0][0].unit,
        ours=Spread.of([one.value for one, _ in measured]),
        plain=Spread.of(plain) if plain else None,
        ratio=statistics.median(ratios) if ratios else None,
        goal=goal,
        comparable=statistics.median(comparable) if comparable else None,
    )


def _comparable(figure: Figure, reference_ms: float) -> float | None:
    if figure.unit.better is None:
        return None
    if figure.plain is not None:
        return figure.value / figure.plain if figure.plain else None
    match figure.unit.scale:
        case "fixed":
            return figure.value
        case "time":
            return figure.value / reference_ms if reference_ms else None
        case "rate":
            return figure.value * reference_ms


def rows_as_json(rows: Iterable[Row]) -> list[dict[str, Any]]:
    return [
        {**asdict(row), "unit": row.unit.name, "better": row.unit.better, "goal_is_reached": row.is_reached}
        for row in rows
    ]


# --- an earlier run ---------------------------------------------------------------------------------------------------


class EarlierRow(BaseModel):
    """What a comparison needs of a row."""

    scenario: str
    name: str
    better: Better | None
    comparable: float | None


class Earlier(BaseModel):
    """What a comparison needs of the document of an earlier run. `sizes`: of each scenario."""

    format: int
    rows: list[EarlierRow]
    sizes: dict[str, list[int]]


class NotABenchmark(ValueError):
    """A file that is not the document of `vision bench all --json`."""


def read_earlier(file: Path) -> Earlier:
    """Raises NotABenchmark, OSError."""
    remedy = "make it with `vision bench all --json > FILE`"
    try:
        earlier = Earlier.model_validate_json(file.read_bytes())
    except ValidationError as fault:
        raise NotABenchmark(f"{file} is not a result of a benchmark ({fault.error_count()} faults); {remedy}") from None
    if earlier.format != FORMAT:
        raise NotABenchmark(f"{file} has format {earlier.format}, and this version reads {FORMAT}; {remedy}")
    return earlier


@dataclass(frozen=True)
class Comparison:
    """`worse`: a sentence for each row that is worse by more than the tolerance. `left_out`: what was not compared."""

    compared: int
    worse: Sequence[str]
    left_out: Sequence[str]


def compare(rows: Sequence[Row], sizes: Mapping[str, Sequence[int]], earlier: Earlier, tolerance: float) -> Comparison:
    """Compare with an earlier run; `tolerance` 0.25 allows a quarter more time, or a rate that many times smaller."""
    before = {(row.scenario, row.name): row for row in earlier.rows}
    compared, worse, left_out = 0, [], []
    other = {name for name, size in sizes.items() if earlier.sizes.get(name, list(size)) != list(size)}
    for name in sizes:
        if name in other:
            then_size = _list(earlier.sizes[name])
            left_out.append(f"{name}: measured with size {_list(sizes[name])}, then with {then_size}")
    for row in rows:
        if row.scenario in other:
            continue
        then = before.get((row.scenario, row.name))
        if row.unit.better is None or row.comparable is None:
            continue
        if then is None or then.comparable is None:
            left_out.append(f"{row.scenario}, {row.name}: the earlier run does not have it")
            continue
        compared += 1
        if (worse_by := _worse_by(row.unit.better, row.comparable, then.comparable)) > tolerance:
            worse.append(_sentence(row, then.comparable, worse_by, tolerance))
    return Comparison(compared, worse, left_out)


def _worse_by(better: Better, now: float, then: float) -> float:
    larger, smaller = (now, then) if better == "less" else (then, now)
    if larger <= smaller:
        return 0.0
    return larger / smaller - 1 if smaller > 0 else float("inf")


def _sentence(row: Row, then: float, worse_by: float, tolerance: float) -> str:
    what = "the ratio to the plain worker" if row.plain else _what(row.unit)
    by = f"worse by {worse_by:.0%}, more than {tolerance:.0%}" if worse_by < float("inf") else "worse beyond any share"
    return f"{row.scenario}, {row.name}: {what} is {row.comparable:.3g} and was {then:.3g}: {by}"


def _what(unit: Unit) -> str:
    if unit.scale == "fixed":
        return f"the figure in {unit.name}"
    return f"the figure in {unit.name}, measured by the plain worker's time for a new picture,"


def _list(sizes: Sequence[int]) -> str:
    return ",".join(map(str, sizes))
