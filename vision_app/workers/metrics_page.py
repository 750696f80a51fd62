"""/metrics of a worker with several processes: the samples of all, each with the label `process`.

A process that does not answer within a bounded time delays nothing: `vision_process_up` and `vision_ready` of it are 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest

from vision_app.telemetry import metrics

from .asking import Asker
from .merging import merge

SUPERVISOR = "supervisor"
MISSING = "# TYPE vision_ready gauge\nvision_ready 0\n"
"""What stands for a process without an answer: it is not ready. Its other samples are missing."""


def metrics_page(asker: Asker) -> Callable[..., Iterable[bytes]]:
    """The WSGI application of the page."""
    own = CollectorRegistry()
    ProcessCollector(registry=own)
    for metric in metrics.OF_A_SUPERVISOR:
        own.register(metric)

    def page(_: Any, start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = _whole(asker, own).encode()
        start_response("200 OK", [("Content-Type", CONTENT_TYPE_LATEST)])
        return [body]

    return page


def _whole(asker: Asker, own: CollectorRegistry) -> str:
    pages = {}
    for name, answer in asker.ask("/metrics").items():
        answered = answer is not None and answer[0] == 200
        metrics.PROCESS_UP.labels(process=name).set(answered)
        pages[name] = answer[1].decode("utf-8", "replace") if answer is not None and answered else MISSING
    return merge({**pages, SUPERVISOR: generate_latest(own).decode()})
