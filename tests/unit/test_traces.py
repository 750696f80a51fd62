"""Switching traces on: by one variable, with a sentence where the packages are missing; what the doctor says."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.collector import collector as running_collector
from vision_app.operations.traces import collector
from vision_app.settings import Settings, SettingsError, load_settings, misspelt
from vision_app.stack.checks import Level
from vision_app.telemetry import spans, traces
from vision_app.telemetry.logging import secret_values
from vision_app.telemetry.otlp import otlp_tracer

ON: dict[str, Any] = {"otel_exporter_otlp_endpoint": "http://127.0.0.1:1/"}


async def test_they_are_off_unless_a_collector_is_named() -> None:
    traces.start(Settings(), "w")
    assert not spans.is_on()
    await traces.stop()


async def test_they_are_on_once_a_collector_is_named_whether_it_answers_or_not() -> None:
    traces.start(load_settings(**ON), "w")
    try:
        assert spans.is_on()
    finally:
        await traces.stop()
    assert not spans.is_on()


def test_missing_packages_are_told_in_one_sentence() -> None:
    with pytest.raises(traces.TracesUnusable, match=r"pip install 'vision-app\[otel\]'"):
        traces.start(load_settings(**ON), "w", has_packages=lambda: False)
    assert not spans.is_on()


def test_spans_arrive_at_a_collector_with_the_headers_and_names_that_were_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with running_collector() as found:
        headers = "authorization=Bearer%20s3cret,x-team=vision"
        settings = load_settings(
            otel_exporter_otlp_endpoint=found.url, otel_exporter_otlp_headers=headers, otel_service_name="pictures"
        )
        tracer = otlp_tracer(settings, "worker-7")
        tracer.begin("x", spans.Kind.INTERNAL, None, {"vision.tokens": 7}).end()
        tracer.close()
    (span,) = found.spans
    assert (span.name, span.parent, span.attributes) == ("x", "", {"vision.tokens": 7})
    assert (span.service["service.name"], span.service["service.instance.id"]) == ("pictures", "worker-7")
    assert (found.headers[0]["authorization"], found.headers[0]["x-team"]) == ("Bearer s3cret", "vision")


def test_the_headers_are_secret_and_must_have_values() -> None:
    settings = load_settings(otel_exporter_otlp_headers="authorization=Bearer%20s3cret")
    assert {"Bearer s3cret", "Bearer%20s3cret"} <= secret_values(settings)
    with pytest.raises(SettingsError, match="OTEL_EXPORTER_OTLP_HEADERS: must be name=value"):
        load_settings(otel_exporter_otlp_headers="Bearer s3cret")


@pytest.mark.parametrize("address", ["127.0.0.1:4318", "grpc://127.0.0.1:4317", "http://user:word@127.0.0.1:4318"])
def test_an_address_that_cannot_be_used_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match="OTEL_EXPORTER_OTLP_ENDPOINT"):
        load_settings(otel_exporter_otlp_endpoint=address)


def test_the_librarys_own_variables_are_no_misspellings() -> None:
    assert misspelt(["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_BSP_MAX_QUEUE_SIZE"]) == {}


# --- the doctor -------------------------------------------------------------------------------------------------------


async def test_the_doctor_says_nothing_while_they_are_off() -> None:
    assert await collector(Settings()) == []


async def test_the_doctor_asks_a_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with running_collector() as found:
        settings = load_settings(otel_exporter_otlp_endpoint=found.url)
        (good,) = await collector(settings)
        found.status = 503
        (bad,) = await collector(settings)
    (away,) = await collector(settings)
    assert (good.verdict, good.detail) == (Level.OK, f"{found.url}/v1/traces takes spans")
    assert (bad.verdict, away.verdict) == (Level.HINT, Level.HINT)
    assert "answers 503" in bad.detail
    assert "does not answer" in away.detail
    assert "posts go on, and spans are dropped" in away.detail


async def test_the_doctor_tells_refused_headers_and_missing_packages() -> None:
    refusing = httpx.MockTransport(lambda _: httpx.Response(401))
    (refused,) = await collector(load_settings(**ON), refusing)
    assert "Correct OTEL_EXPORTER_OTLP_HEADERS" in refused.detail
    (missing,) = await collector(load_settings(**ON), has_packages=lambda: False)
    assert (missing.verdict, missing.detail) == (Level.FAILED, traces.MISSING)
