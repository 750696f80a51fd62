"""A tenant's tasks that wait for money or a slot: a live view on the worker that owns them, and their removal."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import quote

from aiohttp import web

from tables.budget import parked_entry
from vision_app.domain import budget as core
from vision_app.messages import Drop, key_of

from .auth import operator_for, tenant_asked
from .budget import row_of
from .budget_commands import command_operation, hand_over
from .errors import ApiError, json_response
from .models import OperatorHeaders, ParkedAnswer, ParkedPath, ParkedQuery, ParkedTask, ParkedTaskAnswer, TenantPath
from .operation import operation
from .owner import ask_owner, from_owner, unclear
from .page import Page
from .worker import ServedWorker


class ParkedView(Page):
    """/api/v1/budget/{tenant}/parked: the queue, first in first out. DELETE answers each task's post as skipped."""

    @operation("Tasks that wait", path=TenantPath, query=ParkedQuery, answers={200: ParkedAnswer}, errors=(404, 503))
    async def get(self, request: web.Request, path: TenantPath, query: ParkedQuery) -> web.Response:
        return json_response(request, await parked(self.app, request, path.tenant, query))

    @command_operation("Give up all tasks that wait", path=TenantPath)
    async def delete(self, request: web.Request, path: TenantPath, headers: OperatorHeaders) -> web.Response:
        return await hand_over(self.app, request, Drop(tenant_id=path.tenant), headers.x_operator)


class ParkedTaskView(Page):
    """/api/v1/budget/{tenant}/parked/{number}: one task of the queue; DELETE gives it up."""

    @operation("A task that waits", path=ParkedPath, answers={200: ParkedTaskAnswer}, errors=(404, 503))
    async def get(self, request: web.Request, path: ParkedPath) -> web.Response:
        tenant_asked(request, path.tenant)
        answer = await from_owner(self.app, self.app.budgets, key_of(path.tenant), request)
        return answer or json_response(request, _one(self.app, path.tenant, path.number))

    @command_operation("Give up one task that waits", path=ParkedPath)
    async def delete(self, request: web.Request, path: ParkedPath, headers: OperatorHeaders) -> web.Response:
        operator_for(request, path.tenant)
        answer = await from_owner(self.app, self.app.budgets, key_of(path.tenant), request)
        if answer is None:
            _one(self.app, path.tenant, path.number)
        elif answer.status != HTTPStatus.OK:
            raise _not_waiting(path.number) if answer.status == HTTPStatus.NOT_FOUND else unclear()
        command = Drop(tenant_id=path.tenant, first=path.number, before=path.number + 1)
        return await hand_over(self.app, request, command, headers.x_operator)


async def parked(app: ServedWorker, request: web.Request, tenant: str, query: ParkedQuery) -> ParkedAnswer:
    """A tenant's waiting tasks, from the worker that owns them. Raises ApiError 404 for another tenant, 503."""
    tenant_asked(request, tenant)
    url = f"/api/v1/budget/{quote(tenant, safe='')}/parked?start={query.start}&count={query.count}"
    url += f"&post_id={quote(query.post_id, safe='')}" if query.post_id else ""
    answer = await ask_owner(app, app.budgets, key_of(tenant), request, url, ParkedAnswer)
    return answer or _queue(app, tenant, query)


def _queue(app: ServedWorker, tenant: str, query: ParkedQuery) -> ParkedAnswer:
    row = row_of(app, tenant)
    if row is None:
        return ParkedAnswer(tenant_id=tenant, waiting=0, tasks=[], next_start=None)
    numbers = core.queue(row, query.start, query.count + 1)
    shown, more = numbers[: query.count], numbers[query.count :]
    found = [(number, parked_entry(app.parked, key_of(tenant), number)) for number in shown]
    tasks = [
        _task(number, parked, announced=number < row.told)
        for number, parked in found
        if parked is not None and query.post_id in (None, parked.task.post_id)
    ]
    granted = [grant.waiting.task.post_id for grant in row.open.values() if grant.waiting is not None]
    next_start = more[0] if more else None
    return ParkedAnswer(tenant_id=tenant, waiting=row.waiting, tasks=tasks, next_start=next_start, granted=granted)


def _one(app: ServedWorker, tenant: str, number: int) -> ParkedTaskAnswer:
    """The waiting task of this number. Raises ApiError 404."""
    row = row_of(app, tenant)
    parked = (
        parked_entry(app.parked, key_of(tenant), number) if row and core.queue(row, number, 1) == [number] else None
    )
    if row is None or parked is None:
        raise _not_waiting(number)
    return ParkedTaskAnswer(tenant_id=tenant, task=_task(number, parked, announced=number < row.told))


def _not_waiting(number: int) -> ApiError:
    return ApiError(404, "not_found", f"no task {number} waits; the list of those that do: `vision budget parked ls`")


def _task(number: int, parked: core.Parked, *, announced: bool) -> ParkedTask:
    return ParkedTask(
        number=number,
        post_id=parked.task.post_id,
        trace_id=parked.task.trace_id,
        sha256=parked.task.medium.sha256,
        estimate=parked.estimate,
        purpose=parked.purpose,
        ocr_allowed=parked.task.ocr_allowed,
        since_ms=parked.since_ms,
        announced=announced,
    )
