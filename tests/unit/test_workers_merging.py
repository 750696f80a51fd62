"""One page of metrics out of several: it is valid, nothing is lost, and each sample says whose it is."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from vision_app.telemetry import metrics
from vision_app.workers.merging import merge


def samples(page: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    found = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    keyed = {(one.name, frozenset(one.labels.items())): one.value for one in found}
    assert len(keyed) == len(found), "a sample stands twice"
    return keyed


def page_of(value: float, text: str = "x") -> str:
    registry = CollectorRegistry()
    Gauge("plain", "one", registry=registry).set(value)
    counter = Counter("counted", "two", ["a", "b"], registry=registry)
    counter.labels(a=text, b='",process="').inc(value)
    Histogram("took", "three", buckets=(1, 2), registry=registry).observe(value)
    return generate_latest(registry).decode()


def test_all_samples_are_there_with_the_name_of_their_process() -> None:
    pages = {"w-1": page_of(1.5), "w-2": page_of(2.5, 'quo"te\\ and\nline {x} y'), "w-3": ""}
    merged = merge(pages)
    expected = {
        (name, labels | {("process", process)}): value
        for process, page in pages.items()
        for (name, labels), value in samples(page).items()
    }
    assert samples(merged) == expected


def test_a_family_stands_once_with_its_type() -> None:
    lines = merge({"w-1": page_of(1), "w-2": page_of(2)}).splitlines()
    for head in ("# TYPE plain gauge", "# TYPE took histogram", "# HELP plain one"):
        assert lines.count(head) == 1
    families = [family.name for family in text_string_to_metric_families("\n".join(lines) + "\n")]
    assert len(families) == len(set(families))


def test_a_sample_that_names_a_process_itself_keeps_it() -> None:
    own = '# TYPE up gauge\nup{process="w-1"} 1.0\nup{a="b",process="w-2"} 0.0\n'
    assert merge({"supervisor": own}) == own


def test_a_strange_name_is_escaped() -> None:
    assert samples(merge({'w"\\\n': "a 1\n"})) == {("a", frozenset({("process", 'w"\\\n')})): 1.0}


def test_the_whole_catalogue_can_be_merged() -> None:
    page = generate_latest(metrics.REGISTRY).decode()
    assert len(samples(merge({"w-1": page, "w-2": page}))) == 2 * len(samples(page))
