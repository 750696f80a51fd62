"""Posts of every status in a real Postgres: filters, words in two languages, pages by place, the search column."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest

from tests.samples import AT, AT_MS, analysis, analyzed, medium, missing, post, unique
from vision_app.messages import Deferred, Failed, Ocr, PostResult, Skipped
from vision_app.stores.post_search import Place, PostFilter, search
from vision_app.stores.postgres import PostgresSink

LIMIT = 1000
DEFERRED = Deferred(reason="budget", retry_at=AT, details={"spent": 9, "limit": 10, "estimated_tokens": 5})
POLICY = Skipped(reason="policy", details={"policy_name": "unsupported_mime"})


def seen(description: str, text: str = "", **fields: Any) -> Any:
    ocr = Ocr(text=text, engine="gigachat") if text else None
    return analyzed(description, seen=analysis(description, ocr=ocr, **fields))


@pytest.fixture
async def tenant(sink: PostgresSink) -> str:
    """A tenant with a post of each status."""
    tenant = unique("tenant")

    def of(name: str, outcomes: list[Any], **more: Any) -> PostResult:
        return post(outcomes, tenant=tenant, post_id=name, **more)

    for name, outcomes, more in (
        ("ok", [seen("Кошки бегут по мосту", "Скидка на билеты", classification="photo", labels=["кот", "мост"])], {}),
        ("partial", [seen("A running dog", "SALE", classification="meme", labels=["dog"]), missing()], {}),
        ("skipped", [POLICY], {"channel_id": "c-2"}),
        ("error", [Failed(reason="undecodable", details={}, dead_letter_id="vision.media-0-7")], {}),
        ("deferred", [DEFERRED], {}),
        ("half", [seen("Пустая улица"), DEFERRED], {}),
        ("in_work", [None], {"status": "in_work"}),
    ):
        await sink.write([of(name, outcomes, **more)])
    return tenant


async def names(pool: Any, tenant: str, **wanted: Any) -> list[str]:
    return [row["post_id"] for row in await search(pool, PostFilter(tenant_id=tenant, **wanted), None, LIMIT)]


async def test_posts_of_every_status_are_listed_the_newest_first(pool: Any, tenant: str) -> None:
    rows = await search(pool, PostFilter(tenant_id=tenant), None, LIMIT)
    shown = {row["post_id"]: row["status"] for row in rows}
    assert list(shown) == ["in_work", "half", "deferred", "error", "skipped", "partial", "ok"]
    assert {name: status for name, status in shown.items() if name != status} == {"half": "partial"}


async def test_each_filter_selects_its_posts(pool: Any, tenant: str) -> None:
    assert await names(pool, tenant, status="deferred") == ["half", "deferred"]
    assert await names(pool, tenant, status="skipped") == ["skipped"]
    assert await names(pool, tenant, status="partial") == ["half", "partial"]
    for status in ("ok", "error", "in_work"):
        assert await names(pool, tenant, status=status) == [status]
    assert await names(pool, tenant, reason="unsupported_mime") == ["skipped"]
    assert await names(pool, tenant, reason="policy") == ["skipped"]
    assert await names(pool, tenant, reason="budget") == ["half", "deferred"]
    assert await names(pool, tenant, reason="s3_missing") == ["partial"]
    assert await names(pool, tenant, kind="meme") == ["partial"]
    assert await names(pool, tenant, label="мост") == ["ok"]
    assert await names(pool, tenant, channel_id="c-2") == ["skipped"]
    [ok] = await search(pool, PostFilter(tenant_id=tenant, status="ok"), None, LIMIT)
    assert await names(pool, tenant, after=ok["updated_at"]) == [
        "in_work", "half", "deferred", "error", "skipped", "partial",
    ]  # fmt: skip
    assert await names(pool, tenant, before=ok["updated_at"] + timedelta(microseconds=1)) == ["ok"]


WORDS = [
    ("кошка", ["ok"]),
    ("кошками мостам", ["ok"]),
    ("билет", ["ok"]),
    ("dogs run", ["partial"]),
    ("sale", ["partial"]),
    ('"по мосту"', ["ok"]),
    ('"мосту кошки"', []),
    ("кошка or dog", ["partial", "ok"]),
    ("кошка -мост", []),
    ("скидка кошки", ["ok"]),
    ("отсутствует", []),
    ("& | ! :* ( '", []),
]


@pytest.mark.parametrize(("text", "found"), WORDS)
async def test_words_are_found_in_any_form_in_both_languages(
    pool: Any, tenant: str, text: str, found: list[str]
) -> None:
    assert await names(pool, tenant, text=text) == found


async def test_the_second_picture_of_a_post_and_lines_of_its_text_are_found(pool: Any, sink: PostgresSink) -> None:
    tenant = unique("tenant")
    outcomes = [seen("Одна картинка"), seen("Другая", 'начало\nзаголовок\t"цитата"\\конец')]
    await sink.write([post(outcomes, tenant=tenant, post_id="album")])
    for text in ("другая", "заголовок", "цитаты", "конец", "начало"):
        assert await names(pool, tenant, text=text) == ["album"], text


async def test_pages_by_place_hold_every_post_once_in_the_lists_order(pool: Any, sink: PostgresSink) -> None:
    tenant = unique("tenant")
    # one transaction: all have the same updated_at, so that only the place tells them apart
    await sink.write([post([missing()], tenant=tenant, post_id=f"p{number:02}") for number in range(23)])
    wanted = PostFilter(tenant_id=tenant)
    whole = [row["post_id"] for row in await search(pool, wanted, None, LIMIT)]
    paged: list[str] = []
    behind: Place | None = None
    while rows := await search(pool, wanted, behind, 5):
        paged += [row["post_id"] for row in rows]
        behind = Place(rows[-1]["updated_at"], rows[-1]["tenant_id"], rows[-1]["post_id"])
    assert paged == whole
    assert len(set(whole)) == 23


async def test_a_tenants_posts_are_in_no_other_tenants_list(pool: Any, tenant: str) -> None:
    assert await names(pool, unique("other")) == []
    assert await names(pool, unique("other"), text="кошка") == []
    found = await search(pool, PostFilter(text="кошка"), None, LIMIT)
    assert tenant in {row["tenant_id"] for row in found}


async def test_a_page_reads_an_index_and_does_not_sort_the_table(pool: Any, tenant: str) -> None:
    class Explained:
        async def fetch(self, query: str, *given: Any) -> list[Any]:
            async with pool.acquire() as connection, connection.transaction():
                # the table is too small for indexes; a plan that has to sort or read all of it does so nevertheless
                await connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
                self.plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {query}", *given))
            return []

    explained = Explained()
    for wanted, index in (
        (PostFilter(), "post_enrichment_updated"),
        (PostFilter(status="deferred"), "post_enrichment_deferred"),
    ):
        await search(explained, wanted, None, 50)
        assert index in explained.plan
        assert "Sort" not in explained.plan


LONG = random.Random(7)


def _words(letters: str, length: int, joint: str = " ") -> str:
    return joint.join("".join(LONG.choices(letters, k=length)) + "ами" for _ in range(8000))


@pytest.mark.parametrize(
    "text",
    [
        _words("абвгдеёжзиклмн", 5),
        _words("абвгдеёжзиклмн", 3, "-"),
        " ".join(f"a{number}-b{number}.example/{number}?x={number}" for number in range(4000)),
        "а-" * 50_000,
        "x" * 100_000,
        "".join(map(chr, range(1, 0xD7FF))),
    ],
    ids=["words", "hyphens", "addresses", "one hyphenated word", "one word", "every letter"],
)
async def test_a_text_of_any_length_is_stored_whole(pool: Any, sink: PostgresSink, text: str) -> None:
    """A text search vector has a limit of size; Postgres would refuse the row beyond it."""
    tenant = unique("tenant")
    await sink.write([post([seen("Длинный текст", text)], tenant=tenant, post_id="long", emission=(AT_MS, 1))])
    assert await pool.fetchval("SELECT data -> 'reduced' FROM post_enrichment WHERE tenant_id = $1", tenant) is None
    assert await names(pool, tenant, text="длинные тексты") == ["long"]


async def test_media_are_listed_with_reason_and_kind(pool: Any, sink: PostgresSink) -> None:
    tenant, cat, dog = unique("tenant"), medium(), medium()
    outcomes = [seen("Кот", classification="meme"), POLICY]
    await sink.write([post(outcomes, tenant=tenant, post_id="two", media=[cat, dog])])
    [row] = await search(pool, PostFilter(tenant_id=tenant), None, LIMIT)
    assert row["seen"] == {cat.sha256: "meme", dog.sha256: None}
    assert [item.get("reason") for item in row["media"]] == [None, "policy"]
    assert row["labels"] == ["кот", "окно"]
