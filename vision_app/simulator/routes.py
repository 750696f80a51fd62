"""The API's routes other than chat: OAuth, files, models, token counting, balance."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web

from vision_app.simulator import catalogue, chat
from vision_app.simulator.chat_request import read_json
from vision_app.simulator.delivery import Reply, before_work, deliver
from vision_app.simulator.errors import api_error, invalid
from vision_app.simulator.faults import Endpoint, Subject, TokenTtl
from vision_app.simulator.files import read_upload
from vision_app.simulator.oauth import Caller, check_rquid, check_scope, client_of
from vision_app.simulator.pricing import text_tokens
from vision_app.simulator.state import SIMULATOR

PREFIXES = {"/v1": 1, "/v2": 2, "/api/v1": 1, "/api/v2": 2}
_BALANCE_TOKENS = 1_000_000


def routes() -> list[web.RouteDef]:
    """Every route under every prefix at which the vendor's two hosts serve it."""
    defined = [web.post("/api/v2/oauth", oauth)]
    for prefix, version in PREFIXES.items():
        defined += [
            web.post(f"{prefix}/chat/completions", chat.handler(version)),
            web.post(f"{prefix}/files", upload),
            web.get(f"{prefix}/files", list_files),
            web.get(f"{prefix}/files/{{id}}", get_file),
            web.get(f"{prefix}/files/{{id}}/content", get_content),
            web.post(f"{prefix}/files/{{id}}/delete", delete_file),
            web.get(f"{prefix}/models", models),
            web.get(f"{prefix}/models/{{id}}", model),
            web.post(f"{prefix}/tokens/count", count_tokens),
            web.get(f"{prefix}/balance", balance),
        ]
    return defined


async def oauth(request: web.Request) -> web.StreamResponse:
    sim = request.app[SIMULATOR]
    client_id = client_of(request, sim.config)
    sim.bill.oauth(client_id, time.time())
    sim.tokens.admit(client_id)
    check_rquid(request)
    scope = str((await request.post()).get("scope", ""))
    check_scope(scope)
    chosen = sim.faults.choose("oauth", Subject(client_id))
    refused = await before_work(request, chosen, "oauth", client_id)
    if refused is not None:
        return refused
    ttl, skew = sim.config.token_ttl_seconds, 0.0
    if isinstance(chosen.fault, TokenTtl):
        ttl, skew = chosen.fault.seconds, chosen.fault.skew_seconds
    text, expires_at = sim.tokens.issue(client_id, scope, ttl)
    body = {"access_token": text, "expires_at": expires_at + int(skew * 1000)}
    reply = Reply.json(body, {"Cache-Control": "no-cache, no-store, max-age=0, must-revalidate"})
    return await deliver(request, reply, chosen.fault)


async def upload(request: web.Request) -> web.StreamResponse:
    sim = request.app[SIMULATOR]
    caller = sim.tokens.caller(request)
    received = await read_upload(request)
    sha256, session = received.sha256, request.headers.get("X-Session-ID", "")
    chosen = sim.faults.choose("upload", Subject(caller.client_id, session, (sha256,), (received.filename,)))
    refused = await before_work(request, chosen, "upload", caller.client_id)
    if refused is not None:
        return refused
    stored = sim.files.add(caller, received.filename, received.file_type(), received.data, sha256)
    return await deliver(request, Reply.json(stored.document()), chosen.fault)


async def delete_file(request: web.Request) -> web.StreamResponse:
    """Ignores the body: the official SDK sends the id in it as a multipart file."""
    sim = request.app[SIMULATOR]
    caller = sim.tokens.caller(request)
    file = sim.files.get(caller, request.match_info["id"])
    chosen = sim.faults.choose("delete", Subject.of(caller, request.headers.get("X-Session-ID"), [file]))
    refused = await before_work(request, chosen, "delete", caller.client_id)
    if refused is not None:
        return refused
    sim.files.delete(caller, file.id)
    reply = Reply.json({"id": file.id, "deleted": True, "access_policy": "private"})
    return await deliver(request, reply, chosen.fault)


async def list_files(request: web.Request) -> web.StreamResponse:
    caller = request.app[SIMULATOR].tokens.caller(request)
    files = request.app[SIMULATOR].files.of(caller)
    return await _simply(request, caller, "files", Reply.json({"data": [file.document() for file in files]}))


async def get_file(request: web.Request) -> web.StreamResponse:
    caller = request.app[SIMULATOR].tokens.caller(request)
    file = request.app[SIMULATOR].files.get(caller, request.match_info["id"])
    return await _simply(request, caller, "files", Reply.json(file.document()))


async def get_content(request: web.Request) -> web.StreamResponse:
    caller = request.app[SIMULATOR].tokens.caller(request)
    file = request.app[SIMULATOR].files.get(caller, request.match_info["id"])
    return await _simply(request, caller, "files", Reply((file.data,), "application/octet-stream"))


async def models(request: web.Request) -> web.StreamResponse:
    caller = request.app[SIMULATOR].tokens.caller(request)
    return await _simply(request, caller, "models", Reply.json({"object": "list", "data": catalogue.listing()}))


async def model(request: web.Request) -> web.StreamResponse:
    caller = request.app[SIMULATOR].tokens.caller(request)
    return await _simply(request, caller, "models", Reply.json(catalogue.find(request.match_info["id"])))


async def count_tokens(request: web.Request) -> web.StreamResponse:
    """Counts strings only: neither pictures nor files can be counted."""
    caller = request.app[SIMULATOR].tokens.caller(request)
    body: dict[str, Any] = await read_json(request)
    catalogue.chat_model(str(body.get("model", "")))
    texts = body.get("input")
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise invalid("input must be a list of strings")
    counts = [{"object": "tokens", "tokens": text_tokens(text), "characters": len(text)} for text in texts]
    return await _simply(request, caller, "tokens", Reply.json(counts))


async def balance(request: web.Request) -> web.StreamResponse:
    """Only for prepaid scopes, as documented."""
    caller = request.app[SIMULATOR].tokens.caller(request)
    if caller.scope == "GIGACHAT_API_CORP":
        raise api_error(403, "Permission denied")
    values = [{"usage": item["id"], "value": _BALANCE_TOKENS} for item in catalogue.listing() if item["type"] == "chat"]
    return await _simply(request, caller, "balance", Reply.json({"balance": values}))


async def _simply(request: web.Request, caller: Caller, endpoint: Endpoint, reply: Reply) -> web.StreamResponse:
    """Send a reply that needs no work, unless a fault applies."""
    subject = Subject.of(caller, request.headers.get("X-Session-ID"))
    chosen = request.app[SIMULATOR].faults.choose(endpoint, subject)
    refused = await before_work(request, chosen, endpoint, caller.client_id)
    return refused if refused is not None else await deliver(request, reply, chosen.fault)
