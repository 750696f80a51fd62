"""Switches traces on when the settings name a collector, and off when the worker stops."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable
from urllib.parse import unquote

import structlog

from vision_app.settings import Settings, traces_endpoint
from vision_app.texts import noted

from . import spans

log = structlog.get_logger(__name__)

PACKAGES = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter")
MISSING = noted(
    "OTEL_EXPORTER_OTLP_ENDPOINT is set, and the packages for traces are not installed; install the extra `otel` "
    "(pip install 'vision-app[otel]', or requirements-otel.lock), or remove the variable"
)


class TracesUnusable(Exception):
    """Traces are switched on and cannot be made. Install the extra `otel`, or remove OTEL_EXPORTER_OTLP_ENDPOINT."""


def installed() -> bool:
    """Whether the packages of the extra are there. Imports no more than their parents."""
    try:
        return all(importlib.util.find_spec(name) is not None for name in PACKAGES)
    except ModuleNotFoundError:
        return False


def parsed_headers(text: str) -> dict[str, str]:
    """OTEL_EXPORTER_OTLP_HEADERS, `name=value,name=value` with values encoded as in URLs."""
    pairs = (pair.partition("=") for pair in text.split(",") if pair.strip())
    return {name.strip(): unquote(value.strip()) for name, _, value in pairs}


def start(settings: Settings, worker_id: str, *, has_packages: Callable[[], bool] = installed) -> None:
    """Switch traces on if a collector is named. Raises TracesUnusable; a collector that does not answer is no error."""
    endpoint = traces_endpoint(settings)
    if not endpoint or spans.is_on():
        return
    if not has_packages():
        raise TracesUnusable(MISSING)
    from .otlp import otlp_tracer

    spans.start(otlp_tracer(settings, worker_id))
    log.info("traces_on", endpoint=endpoint)


async def stop() -> None:
    """Switch traces off, and send what waits. Takes a few seconds at most."""
    tracer = spans.stop()
    if tracer is not None:
        await asyncio.to_thread(tracer.close)
