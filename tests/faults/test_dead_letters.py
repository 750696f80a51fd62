"""Dead letters of a running worker on real services: what a replay costs and brings back, and that poison stays finite.

The agents' own paths are in tests/agents/test_dead_letter_paths.py; docs/dead-letters.md lists all.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from tests.integration.pipeline import Pipeline, Worker, picture, unique
from tests.integration.test_operations import Vision
from vision_app.audit import Account, take_account
from vision_app.messages import DeadLetter
from vision_app.operations.connections import postgres_of
from vision_app.operations.kafka_log import kafka_log
from vision_app.operations.letters import Filter, read_letters
from vision_app.operations.neighbours import uploaded_event
from vision_app.topics import ALL, ANALYSIS, DLQ

pytestmark = pytest.mark.load

WORKER = {"VISION_PENDING_CHECK_INTERVAL": "1"}


@pytest.fixture
def vision(stack: dict[str, str], tmp_path: Path, worker: Worker) -> Vision:
    return Vision(stack, tmp_path, worker.url)


async def letters_of(pipe: Pipeline, **wanted: Any) -> list[DeadLetter]:
    async with kafka_log(pipe.settings) as kafka:
        return await read_letters(kafka, Filter(**wanted))


async def account_of(pipe: Pipeline, tenant: str) -> Account:
    account = await take_account(pipe.settings, tenants=[tenant])
    assert account.discrepancies == []
    return account


async def test_an_entry_delivered_too_often_is_analyzed_after_its_replay(pipe: Pipeline, vision: Vision) -> None:
    """Five workers died on it, or so Redis says; nothing is wrong with it."""
    tenant, post = unique("often"), unique("often")
    event = uploaded_event(tenant, post, [await pipe.upload(tenant, picture())], f"t-{post}")
    stream, group = pipe.settings.input_streams[0], pipe.settings.vision_consumer_group
    await pipe.idle()
    async with pipe.redis.pipeline(transaction=True) as taken:
        taken.xadd(stream, {"data": orjson.dumps(event)})
        taken.xreadgroup(group, "who-died", {stream: ">"})
        entry = (await taken.execute())[0].decode()
    await pipe.redis.xclaim(stream, group, "who-died", 0, [entry], idle=3_600_000, retrycount=5)
    await pipe.idle()
    [letter] = await letters_of(pipe, tenant_id=tenant)
    assert (letter.id, letter.error) == (f"{stream}-{entry}", "max_deliveries_exceeded")
    assert (await account_of(pipe, tenant)).dead_lettered == 1

    plan = await vision.json("dlq", "replay", "--id", letter.id, "--dry-run")
    assert plan["cost"]["asked"] == 1
    assert plan["cost"]["tokens_at_most"] > 0
    since = await pipe.newest()
    await vision("dlq", "replay", "--id", letter.id)
    await pipe.announced([post], since)
    await pipe.idle()
    [call] = await pipe.billed(post)
    assert call["total_tokens"] <= plan["cost"]["tokens_at_most"]
    account = await account_of(pipe, tenant)
    assert (account.inputs, account.dead_lettered, account.analyzed, account.calls) == (2, 1, 1, 1)


async def test_a_row_that_postgres_refuses_is_written_and_announced_after_its_replay(
    pipe: Pipeline, vision: Vision
) -> None:
    tenant, refused, fine = unique("refused"), unique("refused"), unique("fine")
    name = f"planted_{unique('x')[2:]}"
    media = [await pipe.upload(tenant, picture())]
    since = await pipe.newest()
    async with postgres_of(pipe.settings) as pool:
        check = f"CHECK (post_id <> '{refused}') NOT VALID"
        await pool.execute(f"ALTER TABLE post_enrichment ADD CONSTRAINT {name} {check}")
        try:
            await pipe.publish(tenant, refused, media)
            await pipe.publish(tenant, fine, media)
            await pipe.announced([fine], since)
            await pipe.idle()
        finally:
            await pool.execute(f"ALTER TABLE post_enrichment DROP CONSTRAINT {name}")
    letters = await letters_of(pipe, tenant_id=tenant)
    assert {(letter.origin, letter.error, letter.post_id) for letter in letters} == {
        ("vision.sink.postgres", "Rejected", refused)
    }
    account = await account_of(pipe, tenant)
    assert (account.dead_lettered, account.analyzed) == (1, 1)

    plan = await vision.json("dlq", "replay", "--tenant", tenant, "--dry-run")
    assert len(plan["letters"]) == len(letters)
    assert plan["cost"]["tokens_at_most"] == 0, "the answer is paid for"
    await vision("dlq", "replay", "--tenant", tenant)
    assert (await pipe.announced([refused], since))[refused].event_type == "posts.vision.analyzed"
    await pipe.idle()
    account = await account_of(pipe, tenant)
    assert (account.dead_lettered, account.analyzed, account.calls, account.events) == (0, 2, 1, 2)


async def test_poison_on_every_topic_is_buried_replayed_twice_and_then_refused(pipe: Pipeline, vision: Vision) -> None:
    """Each replay leads to one letter more and to nothing else; the third is refused; the work goes on."""
    tag = unique("poison")
    topics = [topic.name for topic in ALL if topic is not DLQ]
    async with AIOKafkaProducer(bootstrap_servers=pipe.settings.kafka_bootstrap_servers) as producer:
        sent = [await producer.send_and_wait(topic, orjson.dumps([tag, topic]), key=b"poison") for topic in topics]
    ids = [f"{place.topic}-{place.partition}-{place.offset}" for place in sent]
    await pipe.idle()
    assert {letter.id for letter in await letters_of(pipe, ids=ids)} == set(ids)
    chosen = [name for name in ids if not name.startswith(ANALYSIS.name)]
    unreplayable = set(ids) - set(chosen)
    assert "discard it" in await vision("dlq", "replay", "--id", *unreplayable, code=1)

    for round_ in (1, 2, 3):
        arguments = [part for name in chosen for part in ("--id", name)]
        plan = await vision.json("dlq", "replay", *arguments, "--dry-run", code=int(round_ > 2))
        assert plan["cost"]["tokens_at_most"] == 0
        done = json.loads((await vision.run("dlq", "replay", *arguments, "--json")).stdout)
        if round_ > 2:
            assert all("--again" in letter["refused"] for letter in done["letters"])
            break
        chosen = [letter["sent"] for letter in done["letters"]]
        await pipe.idle()
        assert {letter.id for letter in await letters_of(pipe, ids=chosen)} == set(chosen)
    mine = [letter for letter in await letters_of(pipe) if tag in (letter.value or "")]
    assert len(mine) == len(topics) + 2 * len(chosen), "one per replay, none by itself"

    tenant, post = unique("after"), unique("after")
    since = await pipe.newest()
    await pipe.publish(tenant, post, [await pipe.upload(tenant, picture())])
    await pipe.announced([post], since)
