"""Evaluates the expressions of our alert rules on samples of one worker's metrics: the part of PromQL that they use.

Two stages: `parse` makes a tree of an expression, `evaluate` gives its value at one sample. Pure. It differs from
Prometheus in two points: `increase` and `rate` are not extrapolated to the edges of their window, and a subquery has a
value for each sample instead of each step. Not here: where samples come from (`samples.py`), and the rules
(`alert_rules.py`).
"""

from __future__ import annotations

import math
import operator
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .samples import Labels, Samples

Vector = dict[Labels, float]
Value = float | Vector

LOOK_BACK_SECONDS = 300.0
"""A series without a sample for so long has no value any more."""

_TOKEN = re.compile(
    r'\s*(?:([\d.]+)(?![\w])|([a-zA-Z_:][\w:]*)|("(?:[^"\\]|\\.)*")|(=~|!~|!=|==|>=|<=|[-+*/<>=(){}\[\],]))'
)
_DURATION = re.compile(r"\[\s*(\d+)([smhd])\s*(?::\s*(?:\d+[smhd])?\s*)?\]")
_OFFSET = re.compile(r"\s*offset\s+(\d+)([smhd])\b")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
_AGGREGATE: Mapping[str, Callable[[list[float]], float]] = {"sum": math.fsum, "max": max, "min": min}
_OVER_TIME = {"increase", "rate", "min_over_time"}


class Unsupported(Exception):
    """This expression needs Prometheus: it uses something that is not known here. The message says what."""


@dataclass(frozen=True)
class Node:
    """A part of an expression. `name`: of the metric, function or operator; `seconds`: of its window or offset."""

    kind: str  # number, series, window, offset, call, aggregate, binary
    name: str = ""
    parts: tuple[Node, ...] = ()
    number: float = 0.0
    seconds: float = 0.0
    labels: tuple[str, ...] | None = None
    matchers: tuple[tuple[str, str, str], ...] = ()


def series_of(node: Node) -> set[str]:
    """The names of all series in an expression."""
    own = {node.name} if node.kind == "series" else set()
    return own.union(*(series_of(part) for part in node.parts))


def longest_window(node: Node) -> float:
    """The longest window or offset of an expression, in seconds."""
    return max([node.seconds, *(longest_window(part) for part in node.parts)])


def parse(text: str) -> Node:
    """The tree of an expression. Raises Unsupported."""
    parser = _Parser(text)
    node = parser.either()
    if parser.peek():
        raise Unsupported(f"it has {parser.peek()!r}")
    return node


class _Parser:
    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0

    def peek(self) -> str:
        if not self._text[self._at :].strip():
            return ""
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            raise Unsupported(f"it has {self._text[self._at :].strip()[:20]!r}")
        return found.group().strip()

    def take(self, *expected: str) -> str:
        word = self.peek()
        if expected and word not in expected:
            raise Unsupported(f"it has {word!r} where {' or '.join(expected)} is known")
        found = _TOKEN.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return word

    def either(self) -> Node:
        return self._chain({"or"}, lambda: self._chain({"unless"}, self.compared))

    def compared(self) -> Node:
        return self._chain(set(_COMPARE), lambda: self._chain({"+", "-"}, lambda: self._chain({"*", "/"}, self.unary)))

    def _chain(self, operators: set[str], part: Callable[[], Node]) -> Node:
        node = part()
        while self.peek() in operators:
            name = self.take()
            if self.peek() in ("on", "ignoring", "bool", "group_left", "group_right"):
                raise Unsupported(f"it has {self.peek()!r}")
            node = Node("binary", name, (node, part()))
        return node

    def unary(self) -> Node:
        node = self.primary()
        if found := _DURATION.match(self._text, self._at):
            self._at = found.end()
            node = Node("window", parts=(node,), seconds=float(found[1]) * _UNIT_SECONDS[found[2]])
        if found := _OFFSET.match(self._text, self._at):
            self._at = found.end()
            node = Node("offset", parts=(node,), seconds=float(found[1]) * _UNIT_SECONDS[found[2]])
        return node

    def primary(self) -> Node:
        word = self.take()
        if word == "(":
            node = self.either()
            self.take(")")
            return node
        if word[:1].isdigit():
            return Node("number", number=float(word))
        if word in _AGGREGATE:
            labels = self._labels() if self.peek() == "by" else None
            (part,) = self._arguments()
            if self.peek() == "by":
                labels = self._labels()
            return Node("aggregate", word, (part,), labels=labels or ())
        if word in _OVER_TIME or word == "histogram_quantile":
            return Node("call", word, tuple(self._arguments()))
        if not re.fullmatch(r"[a-zA-Z_:][\w:]*", word) or self.peek() == "(":
            raise Unsupported(f"it has {word!r}")
        return Node("series", word, matchers=tuple(self._matchers()))

    def _labels(self) -> tuple[str, ...]:
        self.take("by")
        self.take("(")
        labels = []
        while self.peek() != ")":
            labels.append(self.take())
            if self.peek() == ",":
                self.take()
        self.take(")")
        return tuple(labels)

    def _arguments(self) -> list[Node]:
        self.take("(")
        parts = [self.either()]
        while self.peek() == ",":
            self.take()
            parts.append(self.either())
        self.take(")")
        return parts

    def _matchers(self) -> list[tuple[str, str, str]]:
        found: list[tuple[str, str, str]] = []
        if self.peek() != "{":
            return found
        self.take("{")
        while self.peek() != "}":
            name, how, value = self.take(), self.take("=", "!=", "=~", "!~"), self.take()
            found.append((name, how, value[1:-1].replace('\\"', '"')))
            if self.peek() == ",":
                self.take()
        self.take("}")
        return found


# --- values -----------------------------------------------------------------------------------------------------------


def evaluate(node: Node, samples: Samples, at: float) -> Value:
    """The value at a time: a number, or one per set of labels. Raises Unsupported."""
    match node.kind:
        case "number":
            return node.number
        case "series":
            return _instant(node, samples, at)
        case "offset":
            return evaluate(node.parts[0], samples, at - node.seconds)
        case "aggregate":
            return _aggregated(node, _vector(evaluate(node.parts[0], samples, at)))
        case "call" if node.name == "histogram_quantile":
            quantile = evaluate(node.parts[0], samples, at)
            if isinstance(quantile, dict):
                raise Unsupported("its quantile is not a number")
            return _quantiles(quantile, _vector(evaluate(node.parts[1], samples, at)))
        case "call":
            return _over_time(node, samples, at)
        case "binary":
            left, right = (evaluate(part, samples, at) for part in node.parts)
            return _combined(node.name, left, right)
    raise Unsupported(f"it has a {node.kind} where a value is known")


def _vector(value: Value) -> Vector:
    return value if isinstance(value, dict) else {(): value}


def _fits(labels: Labels, matchers: Sequence[tuple[str, str, str]]) -> bool:
    held = dict(labels)
    for name, how, value in matchers:
        given = held.get(name, "")
        matched = given == value if how in ("=", "!=") else re.fullmatch(value, given) is not None
        if matched != (how in ("=", "=~")):
            return False
    return True


def _instant(node: Node, samples: Samples, at: float) -> Vector:
    found: Vector = {}
    for labels, points in samples.series(node.name, at - LOOK_BACK_SECONDS, at).items():
        if _fits(labels, node.matchers):
            found[labels] = points[-1][1]
    return found


def _over_time(node: Node, samples: Samples, at: float) -> Vector:
    (window,) = node.parts
    if window.kind != "window":
        raise Unsupported(f"{node.name} without a window")
    inner, start = window.parts[0], at - window.seconds
    points: Mapping[Labels, Sequence[tuple[float, float]]]
    if inner.kind == "series":
        found = samples.series(inner.name, start, at)
        points = {labels: held for labels, held in found.items() if _fits(labels, inner.matchers)}
    else:
        collected: dict[Labels, list[tuple[float, float]]] = defaultdict(list)
        for moment in samples.times(start, at):
            for labels, value in _vector(evaluate(inner, samples, moment)).items():
                collected[labels].append((moment, value))
        points = collected
    if node.name == "min_over_time":
        return {labels: min(value for _, value in held) for labels, held in points.items()}
    grown = {labels: _increase(held) for labels, held in points.items() if len(held) > 1}
    if node.name == "increase":
        return grown
    return {labels: value / (points[labels][-1][0] - points[labels][0][0]) for labels, value in grown.items()}


def _increase(points: Sequence[tuple[float, float]]) -> float:
    """How much a counter has grown. A value below the one before it means a restart from zero."""
    values = [value for _, value in points]
    return math.fsum(after - before if after >= before else after for before, after in pairwise(values))


def _aggregated(node: Node, vector: Vector) -> Vector:
    groups: dict[Labels, list[float]] = defaultdict(list)
    for labels, value in vector.items():
        groups[tuple(pair for pair in labels if pair[0] in (node.labels or ()))].append(value)
    return {labels: _AGGREGATE[node.name](values) for labels, values in groups.items()}


def _combined(name: str, left: Value, right: Value) -> Value:
    if name in ("or", "unless"):
        one, other = _vector(left), _vector(right)
        if name == "or":
            return {**{labels: value for labels, value in other.items() if labels not in one}, **one}
        return {labels: value for labels, value in one.items() if labels not in other}
    if name in _COMPARE:
        return _filtered(_COMPARE[name], left, right)
    if not isinstance(left, dict) and not isinstance(right, dict):
        return _calculated(name, left, right)
    pairs = _pairs(left, right)
    return {labels: _calculated(name, one, other) for labels, (one, other) in pairs.items()}


def _filtered(compare: Callable[[float, float], bool], left: Value, right: Value) -> Vector:
    """As a comparison in Prometheus: the values of the left side for which it is true."""
    return {labels: one for labels, (one, other) in _pairs(left, right).items() if compare(one, other)}


def _pairs(left: Value, right: Value) -> dict[Labels, tuple[float, float]]:
    """The values of both sides by labels; a number goes with every set of labels."""
    if isinstance(left, dict) and isinstance(right, dict):
        return {labels: (value, right[labels]) for labels, value in left.items() if labels in right}
    if isinstance(left, dict):
        number: Any = right
        return {labels: (value, number) for labels, value in left.items()}
    return {labels: (left, value) for labels, value in _vector(right).items()}


def _calculated(name: str, one: float, other: float) -> float:
    match name:
        case "+":
            return one + other
        case "-":
            return one - other
        case "*":
            return one * other
        case "/":
            return one / other if other else math.nan if not one else math.copysign(math.inf, one)
    raise Unsupported(f"it has {name!r}")


def _quantiles(quantile: float, buckets: Vector) -> Vector:
    """The quantile of each histogram, linear within its bucket; the last bound for values beyond all bounds."""
    histograms: dict[Labels, list[tuple[float, float]]] = defaultdict(list)
    for labels, count in buckets.items():
        bound = float(dict(labels).get("le", "nan"))
        histograms[tuple(pair for pair in labels if pair[0] != "le")].append((bound, count))
    found: Vector = {}
    for labels, held in histograms.items():
        counts = sorted(held)
        if counts[-1][0] != math.inf or counts[-1][1] <= 0:
            continue
        rank, low_bound, low_count = quantile * counts[-1][1], 0.0, 0.0
        for bound, count in counts:
            if count >= rank:
                width, share = bound - low_bound, (rank - low_count) / max(count - low_count, 1e-12)
                found[labels] = low_bound if bound == math.inf else low_bound + width * share
                break
            low_bound, low_count = bound, count
    return found
