"""Chat completions: from a checked request to a billed answer, including all faults."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from vision_app.simulator import answers, catalogue, wire
from vision_app.simulator.chat_request import ChatRequest, parse, read_json
from vision_app.simulator.config import (
    CONTEXT_TOKENS,
    IMAGES_PER_MESSAGE,
    IMAGES_PER_REQUEST,
    REQUEST_ATTACHMENTS_MAX_BYTES,
)
from vision_app.simulator.delivery import before_work, deliver, is_disconnected
from vision_app.simulator.errors import ApiError, api_error, invalid
from vision_app.simulator.faults import Chosen, Fault, FinishReason, Malformed, Obey, Refusal, Subject
from vision_app.simulator.files import StoredFile
from vision_app.simulator.malformed import spoil
from vision_app.simulator.oauth import Caller
from vision_app.simulator.obedience import obey
from vision_app.simulator.pricing import (
    CHARS_PER_TOKEN,
    TOKENS_PER_MESSAGE,
    Usage,
    text_tokens,
    truncate,
)
from vision_app.simulator.refusals import CANNOT_SEE, REFUSALS
from vision_app.simulator.state import REQUEST_ID, SESSION_ID, SIMULATOR, Simulator

REPAIR_MARK = "<<<ОТВЕТ"
"""Precedes a broken answer in the worker's request to repair it."""


@dataclass(slots=True)
class _Attempt:
    """The data of one call so far, for its line on the bill."""

    caller: Caller
    model: str = ""
    files: list[StoredFile] = field(default_factory=list)
    chosen: Chosen = field(default_factory=Chosen)


def handler(version: int) -> Any:
    """The request handler of `POST /chat/completions` in API `version`."""

    async def chat(request: web.Request) -> web.StreamResponse:
        sim = request.app[SIMULATOR]
        attempt = _Attempt(sim.tokens.caller(request))
        try:
            with _stream(sim, attempt.caller.client_id):
                return await _chat(request, sim, attempt, version)
        except ApiError as refused:
            _record(request, sim, attempt, None, f"refused {refused.status}: {refused.body.get('message', '')}")
            raise

    return chat


@contextmanager
def _stream(sim: Simulator, client_id: str) -> Iterator[None]:
    """Occupy one of the client's streams. Raises ApiError 429 when all are taken."""
    if sim.bill.in_flight(client_id) >= sim.config.streams:
        retry_after = sim.config.retry_after_seconds
        raise api_error(429, headers=None if retry_after is None else {"Retry-After": f"{retry_after:g}"})
    sim.bill.enter(client_id)
    try:
        yield
    finally:
        sim.bill.leave(client_id)


async def _chat(request: web.Request, sim: Simulator, attempt: _Attempt, version: int) -> web.StreamResponse:
    body = await read_json(request)
    attempt.model = str(body.get("model", ""))
    asked = parse(body, version)
    attempt.files = _attached(sim, attempt.caller, asked)
    session = request.headers.get("X-Session-ID")
    attempt.chosen = sim.faults.choose("chat", Subject.of(attempt.caller, session, attempt.files))
    refused = await before_work(request, attempt.chosen, "chat", attempt.caller.client_id)
    if refused is not None:
        _record(request, sim, attempt, None, f"fault: {attempt.chosen.name}")
        return refused
    completion = await _complete(sim, attempt, asked, session)
    _record(request, sim, attempt, completion.usage, _outcome(request, attempt, completion))
    return await deliver(request, wire.shape(completion, version, asked.stream), attempt.chosen.fault)


def _attached(sim: Simulator, caller: Caller, asked: ChatRequest) -> list[StoredFile]:
    """The files attached to the request. Raises ApiError: 404 unknown id, 422 too many or too large."""
    files: list[StoredFile] = []
    for message in asked.messages:
        attached = [sim.files.get(caller, file_id) for file_id in message.attachments]
        if sum(file.type.modality == "image" for file in attached) > IMAGES_PER_MESSAGE:
            raise invalid("only one image per message is allowed")
        files += attached
    if sum(file.type.modality == "image" for file in files) > IMAGES_PER_REQUEST:
        raise invalid("at most 10 images per request are allowed")
    if sum(len(file.data) for file in files if file.type.modality != "text") > REQUEST_ATTACHMENTS_MAX_BYTES:
        raise invalid("attachments exceed 80 MB in total")
    documents = [file for file in files if file.type.modality == "text"]
    return [file for file in files if file not in documents[1:]]  # further text documents are silently ignored


async def _complete(sim: Simulator, attempt: _Attempt, asked: ChatRequest, session: str | None) -> wire.Completion:
    said = await answers.answer(asked.messages[-1].text, attempt.files, sim.config.max_pixels, asked.schema)
    said = _repaired(sim, attempt, session, asked.messages[-1].text, said)
    prompt = text_tokens(asked.prompt) + TOKENS_PER_MESSAGE * len(asked.messages) + said.attachment_tokens
    if prompt > CONTEXT_TOKENS:
        raise api_error(422, "Unprocessable Entity")
    content, finish_reason = _content(said, attempt, asked.model)
    if asked.max_tokens is not None and text_tokens(content) > asked.max_tokens:
        content, finish_reason = truncate(content, asked.max_tokens), "length"
    precached = min(prompt, sim.sessions.precached(attempt.caller.client_id, session, asked.prompt))
    usage = Usage(prompt, text_tokens(content), precached)
    return wire.Completion(catalogue.versioned(asked.model), content, finish_reason, usage)


def _repaired(
    sim: Simulator, attempt: _Attempt, session: str | None, prompt: str, said: answers.SimulatedAnswer
) -> answers.SimulatedAnswer:
    """The answer to a request to repair a broken answer: the session's original answer, before the fault changed it."""
    client = attempt.caller.client_id
    if attempt.files:
        sim.sessions.remember(client, session, said.text)
        return said
    meant = sim.sessions.meant(client, session) if REPAIR_MARK in prompt else None
    return said if meant is None else replace(said, text=meant)


def _content(said: answers.SimulatedAnswer, attempt: _Attempt, model: str) -> tuple[str, str]:
    """The answer's text and the finish reason, after the faults that change the content."""
    fault: Fault | None = attempt.chosen.fault
    match fault:
        case Refusal():
            return REFUSALS[fault.name]
        case FinishReason(reason="error"):
            return "", "error"
        case FinishReason():
            return said.text[: max(CHARS_PER_TOKEN, len(said.text) // 2)], "length"
        case Malformed() if said.fields is not None:
            return spoil(fault.name, said.fields), "stop"
        case Obey() if said.fields is not None:
            return obey(fault.text, fault.how, said.fields), "stop"
        case _ if said.fields is not None and not catalogue.has_vision(model) and _has_image(attempt.files):
            return CANNOT_SEE, "stop"
        case _:
            return said.text, "stop"


def _has_image(files: list[StoredFile]) -> bool:
    return any(file.type.modality == "image" for file in files)


def _outcome(request: web.Request, attempt: _Attempt, completion: wire.Completion) -> str:
    if attempt.chosen.fault is not None:
        return f"fault: {attempt.chosen.name}"
    if is_disconnected(request):
        return "client gone"
    return "ok" if completion.finish_reason == "stop" else completion.finish_reason


def _record(request: web.Request, sim: Simulator, attempt: _Attempt, usage: Usage | None, outcome: str) -> None:
    sim.bill.charge(
        usage,
        time=time.time(),
        client_id=attempt.caller.client_id,
        request_id=request[REQUEST_ID],
        client_request_id=request.headers.get("X-Request-ID"),
        session_id=request[SESSION_ID],
        model=attempt.model,
        sha256=tuple(file.sha256 for file in attempt.files),
        outcome=outcome,
    )
