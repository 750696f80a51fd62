"""Reads what was paid: the simulator's bill, or with the real provider the call records in S3."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson

from vision_app.clients.faults import cause_of
from vision_app.domain.calls import CallRecord as Stored
from vision_app.settings import Settings
from vision_app.stack.errors import StackError
from vision_app.stores.answers import MAX_STORED_BYTES
from vision_app.stores.keys import call_key
from vision_app.stores.s3 import ObjectMissing, S3Store
from vision_app.texts import say

from .material import BilledCall, CallRecord
from .scope import GRANT_MARGIN_MS, Scope

AT_ONCE = 32
REQUEST_SECONDS = 30.0
CONNECT_SECONDS = 4.0


class BillUnreadable(StackError):
    """The simulator does not tell its bill. The message says what to do."""


async def read_bill(settings: Settings, scope: Scope) -> list[BilledCall] | None:
    """The billed calls of our client, in order of time; None with the real provider. Raises BillUnreadable."""
    if not settings.gigachat_simulated:
        return None
    since = max(0, scope.since_ms - GRANT_MARGIN_MS) / 1000
    answer = await _ask(settings, "/admin/bill", REQUEST_SECONDS, since=since)
    account = orjson.loads(answer.content).get(_client(settings), {})
    calls = [_call(entry) for entry in account.get("entries", ()) if entry["billed"]]
    return sorted((call for call in calls if call.at_ms < scope.until_ms), key=lambda call: call.at_ms)


async def check_bill(settings: Settings) -> None:
    """Whether the simulator answers, before other material is read for nothing. Raises BillUnreadable."""
    if settings.gigachat_simulated:
        await _ask(settings, "/healthz", CONNECT_SECONDS)


async def _ask(settings: Settings, path: str, seconds: float, **query: float) -> httpx.Response:
    parts = urlsplit(settings.gigachat_base_url)
    place = f"{parts.scheme}://{parts.netloc}"
    try:
        async with httpx.AsyncClient(timeout=seconds, trust_env=False) as http:
            return (await http.get(f"{place}{path}", params=query)).raise_for_status()
    except httpx.HTTPError as fault:
        raise BillUnreadable(
            say(
                "the simulator of GigaChat at {place} does not tell its bill ({why}); check GIGACHAT_BASE_URL and that "
                "it runs: `vision status`",
                place=place,
                why=cause_of(fault),
            )
        ) from fault


def _client(settings: Settings) -> str:
    """The client id within the credentials."""
    given = base64.b64decode(settings.gigachat_authorization.get_secret_value() or b"").decode(errors="replace")
    return given.partition(":")[0]


def _call(entry: dict[str, Any]) -> BilledCall:
    return BilledCall(
        grant_id=entry["client_request_id"] or "",
        at_ms=round(entry["time"] * 1000),
        tokens=int(entry["total_tokens"]),
        pictures=tuple(entry["sha256"]),
        outcome=entry["outcome"],
    )


async def read_records(s3: S3Store, wanted: Iterable[tuple[str, str]]) -> dict[str, CallRecord]:
    """The call records of grants given as (tenant, grant), by grant; missing records are left out. Raises S3Error."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def read(tenant_id: str, grant_id: str) -> CallRecord | None:
        async with slots:
            try:
                stored = Stored.model_validate_json(await s3.read(call_key(tenant_id, grant_id), MAX_STORED_BYTES))
            except (ObjectMissing, ValueError):
                return None
        return CallRecord(
            grant_id=grant_id,
            tenant_id=tenant_id,
            done=stored.state == "done",
            tokens=stored.tokens or 0,
            verdict=stored.verdict or "",
            version=(stored.answer_key or "").rpartition("/")[2].partition("_")[2],
            at_ms=_milliseconds(stored.at),
        )

    found = await asyncio.gather(*(read(*one) for one in wanted))
    return {record.grant_id: record for record in found if record is not None}


def as_bill(records: Iterable[CallRecord]) -> Sequence[BilledCall]:
    """With the real provider: make a bill from the worker's records of paid calls; the provider's is not readable."""
    done = [record for record in records if record.done]
    calls = (BilledCall(record.grant_id, record.at_ms, record.tokens, (), "recorded") for record in done)
    return sorted(calls, key=lambda call: call.at_ms)


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)
