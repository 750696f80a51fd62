"""Dead letters: grouped by reason, readable, sent again or marked as done, one or many, with the cost beforehand."""

from __future__ import annotations

from typing import Annotated, Literal

from aiohttp import web
from pydantic import BaseModel, Field

from vision_app.web.auth import operator_for
from vision_app.web.dead_letter_models import (
    MAX_IDS,
    DiscardAnswer,
    DiscardBody,
    LetterId,
    LettersQuery,
    LetterState,
    ReplayAnswer,
    ReplayBody,
)
from vision_app.web.dead_letters import discard, letter, letters, replay
from vision_app.web.errors import ApiError
from vision_app.web.operation import check, operation

from .base import UiPage, paging, see_other
from .render import render
from .tenants import Who, Why

Short = Annotated[str, Field(max_length=256, pattern=r"^[^\x00]*$")]
Action = Literal["replay", "discard"]


class DeadLettersQuery(BaseModel):
    state: LetterState | Literal["all"] = "waiting"
    origin: Short = ""
    error: Short = ""
    tenant_id: Short = ""
    cursor: LetterId | None = None
    done: Action | None = None
    count: int = Field(0, ge=0)


class DeadLetterQuery(BaseModel):
    id: LetterId


class LettersForm(BaseModel):
    """Which letters: `ids` one a line, or all waiting ones of a group. `confirmed` does it."""

    action: Action
    ids: Annotated[str, Field(max_length=MAX_IDS * 260)] = ""
    origin: Short = ""
    error: Short = ""
    again: Literal["", "on"] = ""
    confirmed: Literal["", "yes"] = ""
    who: Annotated[str, Field(max_length=64)] = ""
    reason: Annotated[str, Field(max_length=500)] = ""


class Confirmation(BaseModel):
    who: Who
    reason: Why


class DeadLettersView(UiPage):
    """GET /ui/dead-letters: what could not be processed."""

    @operation("Dead letters", query=DeadLettersQuery, answers={})
    async def get(self, request: web.Request, query: DeadLettersQuery) -> web.Response:
        kept = {name: getattr(query, name) for name in ("state", "origin", "error", "tenant_id")}
        given = {name: value for name, value in kept.items() if value}
        found = await letters(self.app, request, check("query", LettersQuery, given | {"cursor": query.cursor}))
        return render(
            request,
            "dead_letters.html",
            found=found,
            query=query,
            **paging("/ui/dead-letters", kept, query.cursor, found.next_cursor),
        )


class DeadLetterView(UiPage):
    """GET /ui/dead-letter: one letter with its payload."""

    @operation("A dead letter", query=DeadLetterQuery, answers={})
    async def get(self, request: web.Request, query: DeadLetterQuery) -> web.Response:
        return render(request, "dead_letter.html", found=await letter(self.app, request, query.id))


class DeadLettersChangeView(UiPage):
    """POST /ui/dead-letters/change: first shows what would happen and what it may cost, then does it."""

    async def post(self, request: web.Request) -> web.Response:
        operator_for(request)
        data = await request.post()
        marked = [str(value) for value in data.getall("id", [])]
        form = await self.form(request, LettersForm, leave_out=("id",))
        ids = marked or [name for line in form.ids.split("\n") if (name := line.strip("\r"))]
        chosen = {"ids": ids} if ids else {"origin": form.origin or None, "error": form.error or None}
        if not ids and not (form.origin or form.error):
            raise ApiError(422, "nothing_chosen", "Mark at least one letter.")
        dry_run = form.confirmed != "yes"
        who, why = "page", None
        if not dry_run:
            confirmation = check("body", Confirmation, {"who": form.who, "reason": form.reason})
            who, why = confirmation.who, confirmation.reason
        plan: ReplayAnswer | DiscardAnswer
        if form.action == "replay":
            again = check("body", ReplayBody, {**chosen, "again": form.again == "on", "dry_run": dry_run})
            plan = sent = await replay(self.app, request, again, who, why)
            count = sum(one.destination is not None for one in sent.letters)
        else:
            body = check("body", DiscardBody, {**chosen, "dry_run": dry_run})
            plan = marked_done = await discard(self.app, request, body, who, why)
            count = len(marked_done.ids)
        if dry_run:
            return render(request, "dead_letters_change.html", form=form, ids="\n".join(ids), plan=plan, count=count)
        return see_other("/ui/dead-letters", done=form.action, count=str(count))
