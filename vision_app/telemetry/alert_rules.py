"""Which alerts of `deploy/prometheus/alerts.yml` would fire now, decided from this worker's own metrics.

The same rules as Prometheus', so that an operator without Prometheus sees what it would say. A rule that needs more
than one worker's last hour (other programs' series, a whole day) is listed as undecided, with the reason. Not here: the
expressions' language (`promql.py`).
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import structlog
import yaml
from prometheus_client import CollectorRegistry

import vision_app

from . import metrics
from .promql import Node, Unsupported, Vector, evaluate, longest_window, parse, series_of
from .samples import Labels, Samples

log = structlog.get_logger(__name__)

AlertState = Literal["firing", "pending", "quiet", "undecided"]

LOOK_SECONDS = 30.0
KEPT_SECONDS = 3600.0 + 2 * LOOK_SECONDS
MOST_SHOWN = 20
"""Label sets of one rule that are shown."""
_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_TEMPLATE = re.compile(r"{{\s*\$(?:labels\.(\w+)|(value))\s*(?:\|\s*(\w+))?\s*}}")
_IF_THERE = re.compile(r"{{\s*with \$labels\.(\w+)\s*}}(.*?){{\s*\.\s*}}(.*?){{\s*end\s*}}")
"""A part of a summary that is there only if its label is."""
_PACKAGE = Path(vision_app.__file__).parent


@dataclass(frozen=True)
class Rule:
    """An alert rule. `tree` is None and `undecided` says why if it cannot be decided here."""

    name: str
    severity: str
    expression: str
    for_seconds: float
    summary: str
    runbook: str
    tree: Node | None
    undecided: str


@dataclass(frozen=True)
class AlertNow:
    """A rule and its state. `since`: epoch seconds from which its condition has held; `about`: its summaries."""

    rule: Rule
    state: AlertState
    since: float | None = None
    about: tuple[str, ...] = ()


def rules_path() -> Path:
    """The rules that are shipped: inside the installed package, or in the repository's `deploy/`."""
    installed = _PACKAGE / "deploy" / "alerts.yml"
    return installed if installed.exists() else _PACKAGE.parent / "deploy" / "prometheus" / "alerts.yml"


def read_rules(text: str, known: Iterable[str]) -> list[Rule]:
    """The rules of a file of Prometheus. `known`: the names of all series that there are here."""
    names = frozenset(known)
    return [_rule(one, names) for group in yaml.safe_load(text)["groups"] for one in group["rules"]]


def _rule(given: Mapping[str, Any], known: frozenset[str]) -> Rule:
    tree, undecided = None, ""
    try:
        tree = parse(given["expr"])
        if foreign := series_of(tree) - known:
            raise Unsupported(f"{', '.join(sorted(foreign))} is not a metric of this worker")
        if longest_window(tree) > KEPT_SECONDS:
            raise Unsupported(f"it looks back further than {KEPT_SECONDS / 60:.0f} minutes")
    except Unsupported as why:
        tree, undecided = None, str(why)
    return Rule(
        name=given["alert"],
        severity=given["labels"]["severity"],
        expression=" ".join(given["expr"].split()),
        for_seconds=_seconds(given.get("for", "0s")),
        summary=given["annotations"]["summary"],
        runbook=given["annotations"]["runbook"],
        tree=tree,
        undecided=undecided,
    )


def _seconds(text: str) -> float:
    return float(text[:-1]) * _UNIT_SECONDS[text[-1]]


class Alerts:
    """The rules' states. `look` is called with each sample, in order of time. Pure; no clock.

    `instance`: what the worker is called in the summaries.
    """

    def __init__(self, rules: Iterable[Rule], instance: str, kept_seconds: float = KEPT_SECONDS) -> None:
        self.rules, self._instance = list(rules), instance
        self.samples = Samples(kept_seconds)
        self._since: dict[tuple[str, Labels], float] = {}
        self.now: tuple[AlertNow, ...] = tuple(_unseen(rule) for rule in self.rules)

    @property
    def series(self) -> set[str]:
        """The names of the series that the decidable rules need."""
        return set().union(*(series_of(rule.tree) for rule in self.rules if rule.tree is not None))

    def look(self, at: float, values: Iterable[tuple[str, Mapping[str, str], float]]) -> None:
        """Take a sample (epoch seconds; name, labels and value of each series) and decide every rule anew."""
        self.samples.add(at, values)
        self.now = tuple(self._state(rule, at) for rule in self.rules)

    def _state(self, rule: Rule, at: float) -> AlertNow:
        if rule.tree is None:
            return _unseen(rule)
        try:
            value = evaluate(rule.tree, self.samples, at)
        except Unsupported as why:
            return AlertNow(rule, "undecided", about=(str(why),))
        holding: Vector = value if isinstance(value, dict) else {(): value}
        for known in [key for key in self._since if key[0] == rule.name and key[1] not in holding]:
            del self._since[known]
        if not holding:
            return AlertNow(rule, "quiet")
        since = {labels: self._since.setdefault((rule.name, labels), at) for labels in holding}
        firing = {labels for labels, began in since.items() if at - began >= rule.for_seconds}
        shown = sorted(firing or since)[:MOST_SHOWN]
        about = tuple(_filled(rule.summary, labels, holding[labels], self._instance) for labels in shown)
        return AlertNow(rule, "firing" if firing else "pending", min(since[labels] for labels in shown), about)


def _unseen(rule: Rule) -> AlertNow:
    return AlertNow(rule, "undecided", about=(rule.undecided or "no sample has been taken yet",))


def _filled(summary: str, labels: Labels, value: float, instance: str) -> str:
    """The summary with its labels and its value."""
    held = {"instance": instance, **dict(labels)}

    def if_there(found: re.Match[str]) -> str:
        return f"{found[2]}{held[found[1]]}{found[3]}" if held.get(found[1]) else ""

    def filled(found: re.Match[str]) -> str:
        if found[1]:
            return held.get(found[1], "?")
        match found[3]:
            case "humanizePercentage":
                return f"{value * 100:.4g} %"
            case "humanizeDuration":
                return f"{value:.0f} s" if value < 120 else f"{value / 60:.0f} min"
        return f"{value:.4g}"

    return _TEMPLATE.sub(filled, _IF_THERE.sub(if_there, summary))


class AlertWatch:
    """Samples this worker's metrics and decides the rules, in a thread, while the worker runs. A resource of it."""

    def __init__(
        self,
        instance: str,
        registry: CollectorRegistry = metrics.REGISTRY,
        path: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._registry, self._clock = registry, clock
        self._alerts = Alerts(_read(path or rules_path(), registry), instance)
        self._task: asyncio.Task[None] | None = None

    @property
    def now(self) -> tuple[AlertNow, ...]:
        """Every rule with its state as of the last look."""
        return self._alerts.now

    async def open(self) -> None:
        self._task = asyncio.create_task(self._look_for_ever(), name="alerts")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _look_for_ever(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self.look)
            except Exception:
                metrics.UNEXPECTED_ERRORS.labels(where="watch").inc()
                log.exception("alerts_not_decided")
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Take a sample now and decide the rules."""
        wanted = self._alerts.series
        families = self._registry.restricted_registry(sorted(wanted)).collect()
        values = [
            (sample.name, sample.labels, sample.value)
            for family in families
            for sample in family.samples
            if sample.name in wanted
        ]
        self._alerts.look(self._clock(), values)


def _read(path: Path, registry: CollectorRegistry) -> list[Rule]:
    """The rules of the file. Without a usable one there are none: a worker works without its own alerts, too."""
    try:
        return read_rules(path.read_text("utf-8"), known_series(registry))
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError) as fault:
        log.error("alert_rules_not_read", path=str(path), error=repr(fault))
        return []


def known_series(registry: CollectorRegistry) -> set[str]:
    """The names of all series that this registry can have, also of those without a sample yet."""
    return {f"{family.name}{suffix}" for family in registry.collect() for suffix in _SUFFIXES.get(family.type, ("",))}
