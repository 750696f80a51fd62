"""The worker's own evaluation of the alert rules: it says what Prometheus says of the same series."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter

from tests.unit.test_deploy_monitoring import ALERTS, HEALTHY, RULES, SICK
from vision_app.telemetry import metrics
from vision_app.telemetry.alert_rules import Alerts, AlertWatch, known_series, read_rules, rules_path
from vision_app.telemetry.promql import Unsupported, evaluate, parse
from vision_app.telemetry.samples import Samples

UNIT = {"s": 1, "m": 60, "h": 3600, "d": 86400}
READ = read_rules(RULES.read_text(), known_series(metrics.REGISTRY))
DECIDED = [rule.name for rule in READ if rule.tree is not None]
FOREIGN = {
    "VisionDown",
    "VisionExporterDown",
    "VisionRedisFilling",
    "VisionRedisNotSaved",
    "VisionKafkaUnderReplicated",
    "VisionPostgresConnections",
    "VisionProviderFilesLeft",
}
"""Rules about other programs, and one about a whole day."""


def seconds(text: str) -> int:
    return sum(int(number) * UNIT[unit] for number, unit in re.findall(r"(\d+)([smhd])", text))


def series(name: str) -> tuple[str, dict[str, str]]:
    metric, _, labels = name.partition("{")
    return metric, dict(re.findall(r'(\w+)="([^"]*)"', labels))


def values(notation: str) -> Iterator[float | None]:
    """As promtool reads `a+bxn`, `axn` and `_xn`: a first value and n more."""
    for part in notation.split():
        found = re.fullmatch(r"(_|[\d.]+)(?:\+([\d.]+))?(?:x(\d+))?", part)
        assert found is not None, part
        start, step, more = found[1], float(found[2] or 0), int(found[3] or 0)
        count = more if start == "_" else more + 1
        for number in range(count):
            yield None if start == "_" else float(start) + step * number


def states(given: dict[str, str], interval: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """After each sample: seconds, and every rule's state by its name."""
    alerts = Alerts(READ, "worker-1", kept_seconds=3720)
    columns = {name: list(values(notation)) for name, notation in given.items()}
    for number in range(max(map(len, columns.values()))):
        now = [(*series(name), held[number]) for name, held in columns.items() if number < len(held)]
        alerts.look(number * seconds(interval), [one for one in now if one[2] is not None])  # type: ignore[misc]  # filtered
        yield number * seconds(interval), {one.rule.name: one for one in alerts.now}


def test_only_rules_about_other_programs_and_whole_days_are_undecided() -> None:
    assert {rule.name for rule in READ} == set(ALERTS)
    assert set(ALERTS) - set(DECIDED) == FOREIGN
    assert all(rule.undecided for rule in READ if rule.tree is None)


@pytest.mark.parametrize("alert", DECIDED)
def test_an_alert_fires_when_prometheus_would_and_not_before(alert: str) -> None:
    interval, given, quiet_at, fires_at = SICK[alert]
    found = dict(states(given, interval))
    assert found[seconds(quiet_at)][alert].state in ("quiet", "pending")
    assert found[seconds(fires_at)][alert].state == "firing"
    about = found[seconds(fires_at)][alert].about
    assert about
    assert not [text for text in about if "{{" in text or "?" in text]


def test_a_summary_names_a_process_if_there_is_one() -> None:
    for given, said in (("", "policy on "), (', process="w-2"', " (w-2) has stood still")):
        found = dict(states({f'vision_stalled_seconds{{stage="policy"{given}}}': "125x4"}, "30s"))
        [about] = found[60]["VisionStalled"].about
        assert said in about
        assert ("(" in about) is bool(given)


def test_on_a_normal_day_nothing_fires() -> None:
    firing = {
        (name, at)
        for at, found in states({name: shown.replace("x800", "x240") for name, shown in HEALTHY.items()}, "15s")
        for name, one in found.items()
        if one.state == "firing"
    }
    assert firing == set()


def test_a_condition_that_ends_starts_anew() -> None:
    given = {'vision_sink_waiting{sink="s3"}': "1x9 0 1x30"}
    found = dict(states(given, "30s"))
    assert found[270]["VisionSinkWaiting"].state == "pending"
    assert found[300]["VisionSinkWaiting"].state == "quiet"
    assert found[330 + 270]["VisionSinkWaiting"].state == "pending"
    assert found[330 + 300]["VisionSinkWaiting"].state == "firing"
    assert found[330 + 300]["VisionSinkWaiting"].since == 330


def held(**given: list[float | None]) -> tuple[Samples, float]:
    samples = Samples(3600)
    for number in range(len(next(iter(given.values())))):
        now: list[Any] = [(name, {}, column[number]) for name, column in given.items()]
        samples.add(number * 30.0, [one for one in now if one[2] is not None])
    return samples, number * 30.0


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("a - 1", {(): 4.0}),
        ("a > 4", {(): 5.0}),
        ("a > 5", {}),
        ("a / zero", {(): float("inf")}),
        ("a == 5 or b", {(): 5.0}),
        ("a unless a offset 1m", {}),
        ("late unless late offset 1m", {(): 1.0}),
        ("increase(c[5m])", {(): 4.0}),
        ("rate(c[5m])", {(): 4 / 90}),
        ("min_over_time(sum(a)[1m:15s])", {(): 4.0}),
    ],
)
def test_the_parts_of_the_language(expression: str, expected: Any) -> None:
    samples, at = held(a=[9, 3, 4, 5], zero=[0, 0, 0, 0], b=[1, 1, 1, 1], c=[5, 6, 1, 3], late=[None, None, 1, 1])
    assert evaluate(parse(expression), samples, at) == expected


@pytest.mark.parametrize(
    "expression", ["absent(a)", "a ? b", "topk(3, a)", "a / on (x) b", "sum(a", "label_replace(a)", "a[5m]", "{x='1'}"]
)
def test_what_is_not_known_is_refused_and_never_guessed(expression: str) -> None:
    samples, at = held(a=[1, 1])
    with pytest.raises(Unsupported):
        evaluate(parse(expression), samples, at)


def test_samples_are_kept_for_their_time_and_no_longer() -> None:
    samples = Samples(60)
    for at in range(0, 300, 30):
        samples.add(at, [("a", {"x": str(at)}, 1.0)])
    assert samples.times(-1, 300) == [210, 240, 270]
    assert [dict(labels)["x"] for labels in samples.series("a", -1, 300)] == ["210", "240", "270"]


def test_the_watch_reads_the_registry_and_the_shipped_rules() -> None:
    registry = CollectorRegistry()
    letters = Counter("events_dlq", "…", ["base_event", "error_code"], registry=registry)
    now = [0.0]
    watch = AlertWatch("worker-1", registry, rules_path(), lambda: now[0])
    assert {one.state for one in watch.now} == {"undecided"}
    watch.look()
    letters.labels("b", "unreadable").inc(3)
    now[0] = 30.0
    watch.look()
    (one,) = [one for one in watch.now if one.rule.name == "VisionDeadLetters"]
    assert one.state == "firing"
    assert one.about == ("Messages of b could not be processed: unreadable.",)
