"""The catalogue of metrics: names, zeros from the start, bounded tenants, and the page."""

from __future__ import annotations

import ast
import re
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import Counter, Gauge, Histogram, generate_latest

from vision_app.settings import load_settings
from vision_app.telemetry import metrics
from vision_app.telemetry.metrics_page import MetricsServerError, start_metrics_server

CATALOGUE = {name: value for name, value in vars(metrics).items() if isinstance(value, Counter | Gauge | Histogram)}


@pytest.fixture(autouse=True)
def no_tenants() -> Iterator[None]:
    """Each test starts without tenants and removes its own and their metrics afterwards."""
    before = set(metrics._tenants)
    metrics._tenants.clear()
    yield
    metrics._tenants.clear()
    metrics._tenants.update(before)
    for metric in CATALOGUE.values():
        if "tenant_id" in metric._labelnames:
            metric.clear()


def page() -> str:
    return generate_latest(metrics.REGISTRY).decode()


def test_every_name_is_there_once_with_one_line_of_what_it_is() -> None:
    families = [family for family in metrics.REGISTRY.collect() if not family.name.startswith("process_")]
    names = [family.name for family in families]
    assert len(names) == len(set(names)) == len(CATALOGUE)
    assert all(family.documentation and "\n" not in family.documentation for family in families)


def uses() -> Iterator[tuple[str, str, ast.expr | None]]:
    """Every `metrics.NAME` in the sources: where, the name, and the call of `.labels` that follows it, if any."""
    root = Path(metrics.__file__).parents[2]
    for path in [file for folder in ("vision_app", "agents", "bridges") for file in (root / folder).rglob("*.py")]:
        nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
        attributes = [node for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
        labelled = {
            id(call.func.value): call
            for call in nodes
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "labels"
        }
        for node in attributes:
            if ast.unparse(node.value) == "metrics" and node.attr.isupper():
                yield f"{path.relative_to(root)}:{node.lineno}", node.attr, labelled.get(id(node))


def test_every_use_names_a_metric_of_the_catalogue_with_all_its_labels() -> None:
    """A wrong label raises ValueError only when its line runs, for example in the middle of an outage."""
    seen = 0
    for where, name, call in uses():
        if name not in CATALOGUE:
            assert hasattr(metrics, name), f"{where}: metrics.{name} does not exist"
            continue
        wanted = CATALOGUE[name]._labelnames
        given = [word.arg for word in call.keywords] or wanted[: len(call.args)] if isinstance(call, ast.Call) else []
        assert sorted(given) == sorted(wanted), f"{where}: metrics.{name} has the labels {wanted}"
        seen += 1
    assert seen


def test_every_metric_is_set_somewhere() -> None:
    """A panel of a metric that nothing sets shows zero for ever."""
    root = Path(metrics.__file__).parents[2]
    named: set[str] = set()
    for path in [file for folder in ("vision_app", "agents", "bridges") for file in (root / folder).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute):
                named.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                named.add(node.id)
    assert set(CATALOGUE) - named == set()


@pytest.mark.parametrize(
    "name",
    [
        "vision_events_total",
        "vision_media_total",
        "vision_retries_total",
        "vision_event_duration_seconds_bucket",
        "vision_media_duration_seconds_bucket",
        "vision_pel_size",
    ],
)
def test_the_smoke_scrape_finds_labelled_zeros_before_anything_happened(name: str) -> None:
    assert re.search(rf"^{name}\{{[^}}]+\}} \d+(\.\d+)?$", page(), re.MULTILINE)


@pytest.mark.parametrize(
    "series",
    [
        'vision_analysis_requests_total{provider="gigachat",reason="none",status="success",tenant_id="t1"}',
        'vision_analysis_requests_total{provider="gigachat",reason="outage",status="error",tenant_id="t1"}',
        'vision_analysis_duration_seconds_bucket{le="5.0",provider="gigachat",status="success",tenant_id="t1"}',
        'vision_budget_usage_gauge{tenant_id="t1"}',
        'vision_budget_gate_blocks_total{reason="daily_limit",tenant_id="t1"}',
        'storage_quota_violations_total{reason="tenant_limit",tenant_id="t1"}',
        'storage_bucket_usage_gb{content_type="vision"}',
    ],
)
def test_the_guides_queries_find_their_series_from_a_tenants_first_event_on(series: str) -> None:
    metrics.tenant_label("t1")
    assert any(line.startswith(f"{series} ") for line in page().splitlines())


def test_no_creation_times_on_the_page() -> None:
    assert "_created" not in page()


def test_tenant_labels_are_bounded_and_known_tenants_keep_theirs() -> None:
    first = [metrics.tenant_label(f"t{number}") for number in range(metrics.MAX_TENANT_LABELS)]
    assert first == [f"t{number}" for number in range(metrics.MAX_TENANT_LABELS)]
    assert {metrics.tenant_label(f"late{number}") for number in range(50)} == {metrics.OTHER_TENANT}
    assert metrics.tenant_label("t0") == "t0"
    tenants = set(re.findall(r'vision_budget_usage_gauge\{tenant_id="([^"]+)"\}', page()))
    assert tenants == {*first, metrics.OTHER_TENANT}


def test_a_tenant_seen_again_keeps_its_count() -> None:
    metrics.BUDGET_BLOCKS.labels(metrics.tenant_label("t1"), "daily_limit").inc()
    metrics.tenant_label("t1")
    sample = {"tenant_id": "t1", "reason": "daily_limit"}
    assert metrics.REGISTRY.get_sample_value("vision_budget_gate_blocks_total", sample) == 1


def test_the_page_is_served_where_the_settings_say() -> None:
    server = start_metrics_server(load_settings(metrics_port=0))
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as answer:
            assert 'vision_pel_size{consumer_group="vision_workers"}' in answer.read().decode()
    finally:
        server.close()


def test_a_port_in_use_is_a_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(MetricsServerError, match=f"127.0.0.1:{port}.*METRICS_PORT"):
            start_metrics_server(load_settings(metrics_port=port))
