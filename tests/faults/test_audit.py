"""The accountant on real services: a clean run is clean, and each fault planted into a store is noticed and named.

Every fault has a tenant of its own; all are planted after one run and one account is taken of them all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner
from neo4j import AsyncGraphDatabase

from tests.integration.pipeline import Pipeline, Worker, picture, unique
from vision_app.audit import Account, take_account
from vision_app.audit.kafka_reader import budget_changelog
from vision_app.audit.money import prefix_of
from vision_app.cli import main
from vision_app.events import UPLOADED_EVENT
from vision_app.messages import Medium, SetLimit, key_of
from vision_app.operations.connections import postgres_of
from vision_app.operations.kafka_log import kafka_log
from vision_app.operations.neighbours import never_uploaded, uploaded_event
from vision_app.providers.base import CallTrace
from vision_app.providers.gigachat import GigaChat
from vision_app.stores.keys import VISION_PREFIX, call_key, post_key, segment
from vision_app.streams.dead_letters import Origin, dead_letter
from vision_app.topics import ANALYSIS, BUDGET, DLQ, MEDIA

WORKER = {"VISION_OCR_FALLBACK_ENABLED": "false"}
ONE_PICTURE = 3000
"""A limit in tokens that one of our pictures fits under, but not a second one."""


@dataclass
class Crime:
    """What was published for one tenant, and the means to falsify it afterwards."""

    pipe: Pipeline
    tenant: str
    post: str
    medium: Medium

    async def rows(self, statement: str) -> None:
        async with postgres_of(self.pipe.settings) as pool:
            await pool.execute(statement, self.tenant, self.post)

    async def event(self) -> tuple[bytes, dict[bytes, bytes]]:
        entries = await self.pipe.redis.xrevrange(self.pipe.settings.vision_output_stream, count=1000)
        found = [(name, f) for name, f in entries if orjson.loads(f[b"data"])["tenant_id"] == self.tenant]
        return found[0]

    async def announce(self, **changes: Any) -> None:
        """Publish the tenant's event once more, with changes to its body."""
        _, fields = await self.event()
        body = orjson.dumps({**orjson.loads(fields[b"data"]), **changes})
        altered: dict[Any, Any] = {**fields, b"data": body}
        await self.pipe.redis.xadd(self.pipe.settings.vision_output_stream, altered)

    async def key(self, *, call: bool = False) -> str:
        """The tenant's one answer, or the record of its one call."""
        below = f"{VISION_PREFIX}{segment(self.tenant)}/"
        keys = [head.key async for head in self.pipe.s3.list(below)]
        return next(k for k in keys if ("/.calls/" in k) is call and "/posts/" not in k)

    async def call_again(self, grant: str) -> None:
        """Have the provider bill a call that the worker knows nothing of."""
        provider = GigaChat(self.pipe.settings)
        await provider.open()
        try:
            trace = CallTrace("nobody", grant)
            async with provider.analyze(None, "Сколько будет дважды два?", trace, _nothing):
                pass
        finally:
            await provider.close()

    async def grant(self) -> str:
        return (await self.key(call=True)).rpartition("/")[2].removesuffix(".json")

    async def ledger(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Add a version to the changelog of the tenant's ledger."""
        topic, key = budget_changelog(self.pipe.settings), key_of(self.tenant)
        async with kafka_log(self.pipe.settings) as log:
            found = [r async for r in log.read(await log.between(log.partition_of(topic, key), None, None))]
        row = orjson.loads(next(record.value for record in reversed(found) if record.key == key))
        change(row)
        await _produce(self.pipe, topic, key, orjson.dumps(row))

    async def bury(self, name: str, **place: Any) -> None:
        value = orjson.dumps({"tenant_id": self.tenant, "post_id": self.post})
        letter = dead_letter(Origin(unique("letter"), name, 1, **place), value, "planted")
        await _produce(self.pipe, DLQ.name, letter.id.encode(), letter.encode())


async def _nothing() -> None:
    return


async def _produce(pipe: Pipeline, topic: str, key: bytes, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=pipe.settings.kafka_bootstrap_servers) as producer:
        await producer.send_and_wait(topic, value, key=key)


# --- the faults -------------------------------------------------------------------------------------------------------


async def row_deleted(crime: Crime) -> None:
    await crime.rows("DELETE FROM post_enrichment WHERE (tenant_id, post_id) = ($1, $2)")


async def row_back_in_work(crime: Crime) -> None:
    await crime.rows("UPDATE post_enrichment SET in_work_since = now() WHERE (tenant_id, post_id) = ($1, $2)")


async def picture_dropped_from_its_row(crime: Crime) -> None:
    await crime.rows("""UPDATE post_enrichment SET data = jsonb_set(data, '{media}', '[]')
                        WHERE (tenant_id, post_id) = ($1, $2)""")


async def event_twice(crime: Crime) -> None:
    await crime.announce()


async def final_event_twice(crime: Crime) -> None:
    _, fields = await crime.event()
    time_ms, _, offset = orjson.loads(fields[b"data"])["emission"].partition("-")
    await crime.announce(emission=f"{time_ms}-{int(offset) + 1}")


async def event_of_nobody(crime: Crime) -> None:
    await crime.announce(post_id=unique("nobody"))


async def event_removed(crime: Crime) -> None:
    entry, _ = await crime.event()
    await crime.pipe.redis.xdel(crime.pipe.settings.vision_output_stream, entry)


async def input_swallowed(crime: Crime) -> None:
    """An entry that the group counts as delivered although nobody has read it."""
    stream, group = crime.pipe.settings.input_streams[0], crime.pipe.settings.vision_consumer_group
    event = uploaded_event(crime.tenant, unique("swallowed"), [crime.medium], "t-swallowed")
    async with crime.pipe.redis.pipeline(transaction=True) as both:
        both.xadd(stream, {"event": UPLOADED_EVENT, "data": orjson.dumps(event)})
        both.xgroup_setid(stream, group, "$")
        await both.execute()


async def answer_removed(crime: Crime) -> None:
    await crime.pipe.s3.delete([await crime.key()])


async def document_removed(crime: Crime) -> None:
    await crime.pipe.s3.delete([post_key(crime.tenant, crime.post)])


async def call_record_removed(crime: Crime) -> None:
    await crime.pipe.s3.delete([call_key(crime.tenant, await crime.grant())])


async def called_twice_under_one_grant(crime: Crime) -> None:
    await crime.call_again(await crime.grant())


async def called_without_a_grant(crime: Crime) -> None:
    await crime.call_again(f"{prefix_of(crime.tenant)}-1-999")


async def spent_beyond_the_limit(crime: Crime) -> None:
    await crime.ledger(lambda row: row.update(spent=row["spent"] + 1_000_000))


async def money_given_back(crime: Crime) -> None:
    await crime.ledger(lambda row: row.update(spent=row["spent"] - 1))


async def grant_beyond_the_limit(crime: Crime) -> None:
    grant = {"estimate": 1_000_000, "provider": "gigachat", "since_ms": 1}
    await crime.ledger(lambda row: row.update(open={"too-much": grant}))


async def charged_twice(crime: Crime) -> None:
    def twice(row: dict[str, Any]) -> None:
        row["spent"] += row["closed"][0]["charged"]
        row["closed"][0]["charged"] *= 2

    await crime.ledger(twice)


async def charge_removed(crime: Crime) -> None:
    await crime.rows("DELETE FROM token_charges WHERE (tenant_id, post_id) = ($1, $2)")


async def charge_doubled(crime: Crime) -> None:
    await crime.rows("UPDATE token_charges SET tokens = 2 * tokens WHERE (tenant_id, post_id) = ($1, $2)")


async def charge_of_nobody(crime: Crime) -> None:
    await crime.rows("""INSERT INTO token_charges SELECT tenant_id, ledger, grant_id || '9', charged_at, 1, false
                        FROM token_charges WHERE (tenant_id, post_id) = ($1, $2)""")


async def graph_node_removed(crime: Crime) -> None:
    settings = crime.pipe.settings
    auth = (settings.neo4j_user, settings.neo4j_password.get_secret_value())
    async with AsyncGraphDatabase.driver(settings.neo4j_uri, auth=auth) as driver:
        await driver.execute_query("MATCH (i:ImageContent {tenant_id: $tenant}) DETACH DELETE i", tenant=crime.tenant)


async def letter_of_nowhere(crime: Crime) -> None:
    await crime.bury(MEDIA.name)


async def letter_of_a_record_that_never_was(crime: Crime) -> None:
    await crime.bury(ANALYSIS.name, partition=0, offset="99999999")


async def letter_of_an_entry_that_never_was(crime: Crime) -> None:
    await crime.bury(crime.pipe.settings.input_streams[0], offset="99999999999999-0")


FAULTS: dict[Callable[[Crime], Awaitable[None]], tuple[dict[str, Any], str]] = {
    # how it is planted: (figures, a part of what is said)
    row_deleted: ({"missing": 1, "events_without_row": 1}, "there is no row"),
    row_back_in_work: ({"missing": 1}, "its row is in work"),
    picture_dropped_from_its_row: ({"missing": 1}, "no result for every picture"),
    event_twice: ({"duplicate_events": 1}, "was published before"),
    final_event_twice: ({"duplicate_events": 1}, "nothing was published since"),
    event_of_nobody: ({"events_without_row": 1}, "is announced, but there is no row"),
    event_removed: ({"rows_without_event": 1}, "was never announced"),
    input_swallowed: ({"inputs": 2, "missing": 1}, "never reached Kafka"),
    answer_removed: ({"answers_missing": 1}, "is not in S3"),
    document_removed: ({"documents_missing": 1}, "is not in S3"),
    call_record_removed: ({"records_missing": 1}, "has no record in S3"),
    called_twice_under_one_grant: ({"calls": 2, "extra_unexplained": 1}, "billed"),
    called_without_a_grant: ({"calls": 2}, "never granted"),
    spent_beyond_the_limit: ({"overspend": 750_000}, "spent went from"),
    money_given_back: ({}, "spent went from"),
    grant_beyond_the_limit: ({"overspend": 750_000}, "1000000 tokens were granted"),
    charged_twice: ({}, "was not cut off"),
    charge_removed: ({"charges_missing": 1}, "are not in token_charges, so `vision cost` shows too little"),
    charge_doubled: ({"charges_extra": 1}, "so `vision cost` shows too much"),
    charge_of_nobody: ({"charges_extra": 1}, "has 1 tokens in 1 charge(s) that no ledger"),
    graph_node_removed: ({"graph_missing": 1}, "the graph does not link"),
    letter_of_nowhere: ({"letters_wrong": 1}, "names no place"),
    letter_of_a_record_that_never_was: ({"letters_wrong": 1}, "never was a record"),
    letter_of_an_entry_that_never_was: ({"letters_wrong": 1}, "it is not on stream:posts:vision:dlq"),
}


async def test_every_planted_fault_is_noticed_and_named(pipe: Pipeline) -> None:
    crimes = {}
    since = await pipe.newest()
    for fault in FAULTS:
        tenant, post = unique(fault.__name__.replace("_", "-")), unique("post")
        crimes[fault] = Crime(pipe, tenant, post, await pipe.upload(tenant, picture()))
        await pipe.publish(tenant, post, [crimes[fault].medium])
    tenants = [crime.tenant for crime in crimes.values()]
    await pipe.announced([crime.post for crime in crimes.values()], since)
    await pipe.idle()
    before = await take_account(pipe.settings, tenants=tenants)
    assert before.discrepancies == []
    assert before.tokens_postgres == before.tokens_ledger > 0
    assert (before.inputs, before.ended, before.calls) == (len(FAULTS), len(FAULTS), len(FAULTS))

    for fault, crime in crimes.items():
        await fault(crime)
    account = await take_account(pipe.settings, tenants=tenants)
    wrong = {
        fault.__name__: missed for fault, crime in crimes.items() if (missed := _missed(account, crime, *FAULTS[fault]))
    }
    assert not wrong, wrong


def _missed(account: Account, crime: Crime, figures: dict[str, Any], said: str) -> str:
    """What the account should say of a fault and does not; empty if it says it."""
    tenant = account.tenants[crime.tenant]
    sentences = [sentence for sentence in account.discrepancies if crime.tenant in sentence]
    if not any(said in sentence for sentence in sentences):
        return f"not said: {said!r}; but: {sentences}"
    differ = {name: getattr(tenant, name) for name in figures if getattr(tenant, name) < figures[name]}
    return f"figures: {differ}, expected at least {figures}" if differ else ""


# --- runs in which nothing is wrong -----------------------------------------------------------------------------------


async def test_a_run_with_every_kind_of_end_is_clean(pipe: Pipeline, worker: Worker) -> None:
    """Twins, repeats, lost and repaired calls, skipped, deferred and unreadable inputs: all explained."""
    tenant, poor = unique("clean"), unique("poor")
    await _limit(pipe, worker, poor, ONE_PICTURE)
    names = ("one", "twin", "mixed", "gone", "lost", "repair", "paid", "deferred")
    posts = {name: unique(name) for name in names}
    await pipe.faults(
        _fault(posts["lost"], {"kind": "drop", "after_work": True}),
        _fault(posts["repair"], {"kind": "malformed", "name": "prose"}),
    )
    shared, since = await pipe.upload(tenant, picture()), await pipe.newest()
    await pipe.publish(tenant, posts["one"], [shared])
    await pipe.publish(tenant, posts["twin"], [shared, shared])
    mixed = [shared, await pipe.upload(tenant, picture()), never_uploaded(tenant, "x")]
    await pipe.publish(tenant, posts["mixed"], mixed)
    await pipe.publish(tenant, posts["gone"], [never_uploaded(tenant, "y")])
    for name in ("lost", "repair"):
        await pipe.publish(tenant, posts[name], [await pipe.upload(tenant, picture())])
    for name in ("paid", "deferred"):
        await pipe.publish(poor, posts[name], [await pipe.upload(poor, picture())])
    stream: str = pipe.settings.input_streams[0]
    await pipe.redis.xadd(stream, {"data": orjson.dumps({"tenant_id": tenant, "media_files": []})})
    await pipe.announced(list(posts.values()), since)
    await pipe.publish(tenant, posts["one"], [shared])
    await pipe.publish(tenant, posts["gone"], [never_uploaded(tenant, "y")])
    await pipe.idle()

    account = await take_account(pipe.settings, tenants=[tenant, poor])
    assert account.discrepancies == []
    assert (account.inputs, account.posts, account.ended, account.missing) == (11, 8, 11, 0)
    ends = {name: getattr(account, name) for name in ("analyzed", "skipped", "deferred", "failed", "dead_lettered")}
    assert ends == {"analyzed": 7, "skipped": 2, "deferred": 1, "failed": 0, "dead_lettered": 1}
    assert account.events == 9, "the skipped post was announced twice, as it was published; the analyzed one once"
    assert account.extra_because == {"lost": 1, "repair": 1}
    assert account.tokens_ledger == account.tokens_billed + account.tokens_lost
    assert (account.tokens_postgres, account.charges, account.charges_under_way) == (account.tokens_ledger, [], 0)
    [lost] = account.differences
    assert (lost.because, lost.charged - lost.billed) == ("lost", account.tokens_lost)
    assert account.tokens_lost > 0
    assert account.tenants[poor].calls == 1
    peak = account.tenants[tenant].peak
    assert peak is not None
    assert account.tenants[tenant].tokens_ledger <= peak.total <= peak.limit
    assert account.waits.count == 9
    assert 0 < account.waits.p50_ms <= account.waits.p95_ms <= account.waits.max_ms

    later = await take_account(pipe.settings, tenants=[tenant, poor], since_ms=account.taken_ms)
    assert (later.discrepancies, later.inputs, later.calls) == ([], 0, 0), "nothing was published since"
    assert later.tokens_postgres == 0

    # The worker of the next module has OCR and would go on with what waits for money.
    await _limit(pipe, worker, poor, 10 * ONE_PICTURE)
    await pipe.idle()
    assert (await pipe.budget(worker, poor))["waiting"] == 0


def _fault(post: str, fault: dict[str, Any]) -> dict[str, Any]:
    return {"endpoint": "chat", "session": f"t-{post}", "times": 1, "fault": fault}


async def _limit(pipe: Pipeline, worker: Worker, tenant: str, limit: int) -> None:
    await _produce(pipe, BUDGET.name, key_of(tenant), SetLimit(tenant_id=tenant, limit=limit).encode())
    while (await pipe.budget(worker, tenant))["limit"] != limit:
        pass


def test_the_command_says_whether_it_is_clean_and_what_it_cannot_read(
    stack: dict[str, str], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {**stack, "VISION_HOME": str(tmp_path)}
    tenant = unique("nobody")
    clean = CliRunner().invoke(main, ["audit", "--tenant", tenant], env=environment)
    assert clean.exit_code == 0, clean.output
    assert "0 inputs, 0 ended, 0 missing: nothing is wrong" in clean.output
    away = {**environment, "DATABASE_URL": "postgresql://127.0.0.1:1/x"}
    unread = CliRunner().invoke(main, ["audit", "--tenant", tenant, "--json"], env=away)
    assert unread.exit_code == 2, unread.output
    assert "vision doctor" in unread.output
