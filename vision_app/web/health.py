"""Says whether the process lives, and whether it is ready; if not, why not.

Both the API and the metrics port answer. The metrics port has its own thread, so it answers even if the API is
overloaded or the event loop is blocked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from vision_app.streams.faust_seams import watch_of
from vision_app.telemetry.watch import Oldest, RecordPlace, Stall, remedy

from .errors import json_response
from .models import AliveAnswer, OldestWork, ReadyAnswer, StalledWork, WorkPlace
from .operation import operation
from .page import Page
from .worker import ServedWorker

Pages = Mapping[str, Callable[[], tuple[int, bytes]]]


class AliveView(Page):
    """GET /healthz: 200 as long as the event loop runs."""

    @operation("Whether the process lives", answers={200: AliveAnswer}, open=True)
    async def get(self, request: web.Request) -> web.Response:
        return json_response(request, AliveAnswer(status="alive"))


class ReadyView(Page):
    """GET /readyz: 200 if messages are being handled, otherwise 503 with the reason."""

    @operation("Whether messages are being worked on", answers={200: ReadyAnswer, 503: ReadyAnswer}, open=True)
    async def get(self, request: web.Request) -> web.Response:
        status, answer = ready_answer(self.app)
        return json_response(request, answer, status=status)


def health_pages(app: ServedWorker) -> Pages:
    """The same two pages for the metrics port, by path: status and JSON."""

    def alive() -> tuple[int, bytes]:
        silent = watch_of(app).loop_silent_seconds
        status: int = 503 if silent > watch_of(app).stall_seconds else 200
        answer = AliveAnswer(status="alive" if status == 200 else "blocked")
        return status, answer.model_dump_json().encode()

    def ready() -> tuple[int, bytes]:
        status, answer = ready_answer(app)
        return status, answer.model_dump_json().encode()

    return {"/healthz": alive, "/readyz": ready}


def ready_answer(app: ServedWorker) -> tuple[int, ReadyAnswer]:
    """The status, 200 or 503, and the answer of /readyz."""
    reason = app.not_ready()
    answer = ReadyAnswer(
        status="not_ready" if reason else "ready",
        reason=reason,
        waiting_for=app.waiting_for(),
        stalls=[_stalled(stall) for stall in watch_of(app).stalls],
        oldest=[_oldest(work) for work in watch_of(app).oldest()],
    )
    return (503 if reason else 200), answer


def _stalled(stall: Stall) -> StalledWork:
    return StalledWork(
        **_place(stall.place), stage=stall.stage, since=_at(stall.since), reason=stall.why, remedy=remedy(stall)
    )


def _oldest(work: Oldest) -> OldestWork:
    return OldestWork(**_place(work.place), stage=work.stage, since=_at(work.since), waits_for=work.waits_for)


def _place(place: RecordPlace) -> dict[str, Any]:
    return WorkPlace(
        place=str(place), topic=place.topic, partition=place.partition, offset=place.offset or None
    ).model_dump()


def _at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
