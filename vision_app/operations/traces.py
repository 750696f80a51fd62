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
from vision_app.texts import say

ASK_SECONDS = 3.0


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
        return [_finding(Level.FAILED, say(MISSING))]
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
        text = say(
            "{endpoint} does not answer: {cause}; posts go on, and spans are dropped. Start the collector, or correct "
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            endpoint=endpoint,
            cause=cause_of(fault),
        )
        return [_finding(Level.HINT, text)]
    if answer.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        text = say(
            "{endpoint} refuses us with {status}; posts go on, and spans are dropped. Correct "
            "OTEL_EXPORTER_OTLP_HEADERS",
            endpoint=endpoint,
            status=answer.status_code,
        )
        return [_finding(Level.HINT, text)]
    if not answer.is_success:
        text = say(
            "{endpoint} answers {status} to a request without spans; posts go on, and spans are dropped. "
            "OTEL_EXPORTER_OTLP_ENDPOINT names the OTLP port for HTTP, usually 4318",
            endpoint=endpoint,
            status=answer.status_code,
        )
        return [_finding(Level.HINT, text)]
    return [_finding(Level.OK, say("{endpoint} takes spans", endpoint=endpoint))]


def _finding(verdict: Level, detail: str) -> Finding:
    return Finding(check=say("traces"), verdict=verdict, detail=detail)
