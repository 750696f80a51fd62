"""The operator's API: faults, the bill, limits, reset. Without authentication, so loopback only."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vision_app.simulator.errors import api_error, json_response
from vision_app.simulator.faults import RULES
from vision_app.simulator.files import StoredFile
from vision_app.simulator.state import SIMULATOR, Simulator


class SimulatorLimits(BaseModel):
    """The settings that may change while the simulator runs. Only those given are changed."""

    model_config = ConfigDict(extra="forbid")

    streams: int = Field(10, gt=0)
    token_ttl_seconds: float = Field(1800.0, ge=0)
    retry_after_seconds: float | None = Field(None, ge=0)
    oauth_per_second: int = Field(10, gt=0)


def routes() -> list[web.RouteDef]:
    return [
        web.get("/healthz", healthz),
        web.get("/admin/bill", get_bill),
        web.post("/admin/reset", reset),
        web.get("/admin/faults", get_faults),
        web.post("/admin/faults", add_faults),
        web.delete("/admin/faults", clear_faults),
        web.get("/admin/limits", get_limits),
        web.put("/admin/limits", set_limits),
    ]


def bill(sim: Simulator, since: float = 0.0) -> dict[str, Any]:
    """The bill of every client, with the files that client has stored at the moment."""
    files = sim.files.all()
    clients = sorted({*sim.bill.accounts, *(file.owner[0] for file in files)})
    return {client: account(sim, client, since) for client in clients}


def account(sim: Simulator, client: str, since: float = 0.0) -> dict[str, Any]:
    """The bill of one client; `since` (seconds since the epoch) drops earlier entries, but not from the sums."""
    stored = [_stored(file) for file in sim.files.all() if file.owner[0] == client]
    return {**sim.bill.accounts[client].summary(since), "files": stored}


def _stored(file: StoredFile) -> dict[str, Any]:
    """`label` is the X-Client-ID of the upload."""
    _, label = file.owner
    facts = {"id": file.id, "sha256": file.sha256, "bytes": len(file.data), "filename": file.filename}
    return {**facts, "label": label, "created_at": file.created_at}


async def healthz(_: web.Request) -> web.Response:
    return json_response({"status": "ok", "simulated": True})


async def get_bill(request: web.Request) -> web.Response:
    """`?entries=0` leaves out the single calls, `?since=SECONDS` those before a time. 422 if SECONDS is no number."""
    try:
        accounts = bill(request.app[SIMULATOR], float(request.query.get("since", 0)))
    except ValueError:
        raise api_error(422, "since is seconds since the epoch. See docs/simulator.md") from None
    if request.query.get("entries") == "0":
        for summary in accounts.values():
            del summary["entries"]
    return json_response(accounts)


async def reset(request: web.Request) -> web.Response:
    request.app[SIMULATOR].reset()
    return json_response({"reset": True})


async def get_faults(request: web.Request) -> web.Response:
    return json_response(request.app[SIMULATOR].faults.listing())


async def add_faults(request: web.Request) -> web.Response:
    """Appends a JSON list of rules. 422 names their faults."""
    try:
        rules = RULES.validate_json(await request.read())
    except ValidationError as fault:
        raise _explain(fault) from None
    return json_response({"added": request.app[SIMULATOR].faults.add(rules)})


async def clear_faults(request: web.Request) -> web.Response:
    request.app[SIMULATOR].faults.clear()
    return json_response({"cleared": True})


async def get_limits(request: web.Request) -> web.Response:
    config = request.app[SIMULATOR].config
    return json_response({name: getattr(config, name) for name in SimulatorLimits.model_fields})


async def set_limits(request: web.Request) -> web.Response:
    try:
        limits = SimulatorLimits.model_validate_json(await request.read())
    except ValidationError as fault:
        raise _explain(fault) from None
    for name in limits.model_fields_set:
        setattr(request.app[SIMULATOR].config, name, getattr(limits, name))
    return await get_limits(request)


def _explain(fault: ValidationError) -> Exception:
    reasons = orjson.loads(fault.json(include_url=False, include_input=False))
    lines = [f"{'.'.join(str(part) for part in reason['loc'])}: {reason['msg']}" for reason in reasons]
    return api_error(422, "; ".join(lines) + ". See docs/simulator.md")
