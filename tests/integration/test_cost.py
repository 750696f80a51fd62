"""The cost agrees with the accounts to the token, and what was not spent is counted by its reason."""

from __future__ import annotations

import asyncio
import csv
import functools
import io
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.pipeline import Pipeline, Worker, picture, unique
from vision_app.audit.account import take_account
from vision_app.messages import Medium
from vision_app.operations.connections import postgres_of
from vision_app.settings import Settings
from vision_app.stack.environment import plain
from vision_app.stores.costs import CostReader, Period
from vision_app.stores.postgres import PostgresSink

MINE, THEIRS = unique("cost-mine"), unique("cost-theirs")
WORKER = {"VISION_API_TOKENS": f"operator=*,mine={MINE},theirs={THEIRS}", "VISION_PRICES": "GigaChat-Pro=2"}


@pytest.fixture
async def published(pipe: Pipeline) -> datetime:
    """Of one tenant a new picture, the same again, a document, one that the policy skips; of another a picture."""
    began = datetime.now(UTC) - timedelta(seconds=1)
    content = picture()
    first, document = await pipe.upload(MINE, content), await pipe.upload(MINE, "document_act.png")
    skipped = Medium(sha256="ab" * 32, s3_key="media/x", mime_type="video/mp4", size_bytes=10)
    for tenant, media in (
        (MINE, [first]),
        (MINE, [first]),
        (MINE, [document, skipped]),
        (THEIRS, [await pipe.upload(THEIRS, content)]),
    ):
        since, post = await pipe.newest(), unique("post")
        await pipe.publish(tenant, post, media)
        await pipe.announced([post], since)
    await pipe.idle()
    return began


async def test_cost_equals_the_accounts_to_the_token(
    pipe: Pipeline, worker: Worker, stack: Mapping[str, str], stack_settings: Settings, published: datetime
) -> None:
    account = await take_account(stack_settings, since_ms=round(published.timestamp() * 1000), tenants={MINE, THEIRS})
    assert account.discrepancies == []
    async with postgres_of(stack_settings) as pool:
        reader = CostReader(pool, stack_settings.gigachat_vision_model)
        for tenant, its in account.tenants.items():
            of = Period(published, datetime.now(UTC), tenant)
            assert await reader.tokens(of) == its.tokens_ledger > 0
            assert sum(one.calls for one in await reader.spent("model", of)) == its.calls

    headers = {"Authorization": "Bearer mine"}
    async with httpx.AsyncClient(base_url=worker.url, headers=headers, trust_env=False) as client:
        query = {"by": "kind", "since": published.isoformat()}
        body = (await client.get("/api/v1/cost", params=query)).json()
        assert (await client.get("/api/v1/cost", params={**query, "tenant_id": THEIRS})).status_code == 404
    mine = account.tenants[MINE]
    assert (body["total"]["tokens"], body["total"]["calls"]) == (mine.tokens_ledger, mine.calls)
    assert float(body["total"]["money"]) == pytest.approx(mine.tokens_ledger * 2 / 1000, abs=0.01)
    assert body["unpriced"] == []
    assert {row["group"] for row in body["rows"]} >= {"document"}
    saved = {one["how"]: one for one in body["total"]["saved"]}
    assert (saved["cache"]["media"], saved["policy"]["media"]) == (1, 1)
    assert 0 < saved["cache"]["tokens"] < mine.tokens_ledger

    program = str(Path(sys.executable).with_name("vision"))
    command = [program, "cost", "--by", "tenant", "--since", published.isoformat(), "--csv"]
    environment = {**plain(), **stack, "VISION_PRICES": "M=1"}
    ran = functools.partial(subprocess.run, command, capture_output=True, text=True, check=True, env=environment)
    printed = await asyncio.to_thread(ran)
    rows = {row["tenant"]: row for row in csv.DictReader(io.StringIO(printed.stdout))}
    assert {tenant: int(rows[tenant]["tokens"]) for tenant in (MINE, THEIRS)} == {
        tenant: its.tokens_ledger for tenant, its in account.tenants.items()
    }


async def test_a_call_that_was_cut_off_is_in_the_cost_as_it_is_in_the_ledger(
    pipe: Pipeline, stack_settings: Settings
) -> None:
    tenant, post, began = unique("cost-cut"), unique("post"), datetime.now(UTC) - timedelta(seconds=1)
    await pipe.faults({"endpoint": "chat", "session": f"t-{post}", "times": 1, "fault": {"kind": "reset"}})
    since = await pipe.newest()
    await pipe.publish(tenant, post, [await pipe.upload(tenant, picture())])
    await pipe.announced([post], since)
    await pipe.faults()
    await pipe.idle()
    account = await take_account(stack_settings, since_ms=round(began.timestamp() * 1000), tenants={tenant})
    async with postgres_of(stack_settings) as pool:
        spent = await CostReader(pool, "M").spent("model", Period(began, datetime.now(UTC), tenant))
    assert sum(one.tokens for one in spent) == account.tenants[tenant].tokens_ledger
    assert sum(one.cut_off_tokens for one in spent) > 0


async def test_one_row_of_absurd_size_does_not_take_the_figures_away(sink: PostgresSink, pool: Any) -> None:
    tenant, most = unique("tenant"), 2**63 - 1
    for number in range(2):
        await pool.execute(
            """INSERT INTO token_charges (tenant_id, ledger, grant_id, charged_at, tokens, cut_off)
               VALUES ($1, 'l', $2, now(), $3, true)""",
            tenant,
            str(number),
            most,
        )
    reader = CostReader(pool, "M")
    today = Period(datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(hours=1), tenant)
    assert await reader.tokens(today) == most
    (spent,) = await reader.spent("tenant", today)
    assert (spent.calls, spent.tokens, spent.cut_off_tokens) == (2, most, most)
    await pool.execute("DELETE FROM token_charges WHERE tenant_id = $1", tenant)
