"""What `vision doctor` says about the collector of traces."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from http import HTTPStatus

import httpx

from vision_app.clients.faults import cause_of
from vision_app.settings import Settings, traces_endpoint
from vision_app.stack.checks import Finding, Level
from vision_app.telemetry.traces import MISSING, installed, parsed_headers

ASK_SECONDS = 3.0
WITHOUT = "posts go on, and spans are dropped"


async def collector(
    settings: Settings,
    transport: httpx.AsyncBaseTransport | None = None,
    *,
    has_packages: Callable[[], bool] = installed,
) -> list[Finding]:
    """Whether the collector takes spans; nothing if traces are off. It is sent a request without spans."""
    endpoint = traces_endpoint(settings)
    if not endpoint:
        return []
    if not has_packages():
        return [_finding(Level.FAILED, MISSING)]
    headers = {
        **parsed_headers(settings.otel_exporter_otlp_headers.get_secret_value()),
        "Content-Type": "application/x-protobuf",
    }
    try:
        authorities = settings.otel_exporter_otlp_certificate
        verify = ssl.create_default_context(cafile=str(authorities)) if authorities else True
        async with httpx.AsyncClient(verify=verify, timeout=ASK_SECONDS, transport=transport) as http:
            answer = await http.post(endpoint, content=b"", headers=headers)
    except (httpx.HTTPError, OSError) as fault:
        text = f"{endpoint} does not answer: {cause_of(fault)}; {WITHOUT}"
        return [_finding(Level.HINT, f"{text}. Start the collector, or correct OTEL_EXPORTER_OTLP_ENDPOINT")]
    if answer.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        text = f"{endpoint} refuses us with {answer.status_code}; {WITHOUT}. Correct OTEL_EXPORTER_OTLP_HEADERS"
        return [_finding(Level.HINT, text)]
    if not answer.is_success:
        text = f"{endpoint} answers {answer.status_code} to a request without spans; {WITHOUT}"
        return [_finding(Level.HINT, f"{text}. OTEL_EXPORTER_OTLP_ENDPOINT names the OTLP port for HTTP, usually 4318")]
    return [_finding(Level.OK, f"{endpoint} takes spans")]


def _finding(verdict: Level, detail: str) -> Finding:
    return Finding(check="traces", verdict=verdict, detail=detail)
