"""GET /api/v1/dlq and the actions, with an index and a Postgres in the test: filters, tenants, times, pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.unit.test_letter_index import letter
from tests.unit.test_web import Worker, served
from vision_app.messages import DeadLetter
from vision_app.operations.letter_index import IndexedLetter, index_letter
from vision_app.web.dead_letters import readable
from vision_app.web.errors import ApiError

YEAR_584556019_MS = 2**64 - 1


class Letters(Worker):
    """A worker with these letters; `handled`: what was done with them, by their ids."""

    def __init__(self, *known: DeadLetter, **handled: str) -> None:
        super().__init__()
        self.known, self.handled, self.complete = known, handled, True
        self.letter_index = self
        self.executed: list[tuple[Any, ...]] = []

    async def letters(self) -> Sequence[IndexedLetter]:
        return [index_letter(one, (0, place)) for place, one in enumerate(self.known)]

    async def load(self, ids: Sequence[str]) -> list[DeadLetter]:
        return [one for name in ids for one in self.known if one.id == name]

    @asynccontextmanager
    async def pool_for_page(self) -> AsyncIterator[Any]:
        if not self.postgres:
            raise ApiError(503, "store_unavailable", "away")
        yield self

    async def fetch(self, query: str, given: list[str]) -> list[dict[str, Any]]:
        if "replays" in query:
            return []
        done = [(name, action) for name, action in self.handled.items() if name in given]
        return [{"letter_id": name, "last_seen_ms": 2**70, "action": action} for name, action in done]

    async def execute(self, query: str, *values: Any) -> None:
        self.executed.append(values)


async def ask(worker: Worker, url: str, token: str = "every", **more: Any) -> tuple[int, Any]:  # noqa: S107 - of a test
    async with served(worker, vision_api_tokens="every=*,mine=t1") as client:
        method = "POST" if "json" in more else "GET"
        return await client.ask(method, url, headers={"Authorization": f"Bearer {token}"}, **more)


def ids(body: Any) -> list[str]:
    return [one["id"] for one in body["letters"]]


async def test_a_letter_with_any_time_is_listed_and_shown() -> None:
    worker = Letters(letter("a", YEAR_584556019_MS))
    _, body = await ask(worker, "/api/v1/dlq")
    assert body["letters"][0]["last_seen"] == "9999-12-31T23:59:59Z"
    status, _ = await ask(worker, "/api/v1/dlq/a")
    assert status == 200


async def test_only_letters_without_a_decision_are_listed_unless_asked_for() -> None:
    worker = Letters(letter("a"), letter("b"), letter("c"), b="replayed", c="discarded")
    for query, expected in (("", ["a"]), ("?state=replayed", ["b"]), ("?state=all", ["a", "b", "c"])):
        assert ids((await ask(worker, f"/api/v1/dlq{query}"))[1]) == expected


async def test_without_postgres_all_letters_are_readable_and_it_says_so() -> None:
    worker = Letters(letter("a"), letter("b"), b="replayed")
    worker.postgres = False
    _, body = await ask(worker, "/api/v1/dlq")
    assert (ids(body), body["states_known"]) == (["a", "b"], False)


async def test_pages_and_groups() -> None:
    worker = Letters(*(letter(f"l{number}", error="X" if number % 3 else "Y") for number in range(7)))
    _, first = await ask(worker, "/api/v1/dlq?limit=5")
    _, last = await ask(worker, f"/api/v1/dlq?limit=5&cursor={first['next_cursor']}")
    assert ids(first) + ids(last) == [f"l{number}" for number in range(7)]
    assert last["next_cursor"] is None
    assert [(one["error"], one["count"]) for one in first["groups"]] == [("X", 4), ("Y", 3)]


async def test_filters_are_those_of_the_command() -> None:
    worker = Letters(letter("a", 10, post_id="p"), letter("b", 20, origin="o"), letter("c", 30, error="E", post_id="q"))
    since = "1970-01-01T00:00:00.020Z"
    for query, expected in (
        ("post_id=p", ["a"]),
        ("origin=o", ["b"]),
        ("error=E", ["c"]),
        (f"since={since}", ["b", "c"]),
    ):
        assert ids((await ask(worker, f"/api/v1/dlq?{query}"))[1]) == expected


async def test_a_tenant_sees_its_own_letters_and_changes_none() -> None:
    worker = Letters(letter("a", tenant_id="t1"), letter("b", tenant_id="t2"), letter("c"))
    assert ids((await ask(worker, "/api/v1/dlq", "mine"))[1]) == ["a"]
    assert (await ask(worker, "/api/v1/dlq/b", "mine"))[0] == 404
    assert (await ask(worker, "/api/v1/dlq?tenant_id=t2", "mine"))[0] == 404
    for action in ("replay", "discard"):
        url = f"/api/v1/dlq/actions/{action}"
        assert (await ask(worker, url, "mine", json={"ids": ["a"]}))[0] == 403
    assert worker.executed == []


async def test_discarding_names_first_what_it_would_do() -> None:
    worker = Letters(letter("a"), letter("b"))
    url = "/api/v1/dlq/actions/discard"
    status, body = await ask(worker, url, json={"ids": ["a"]})
    assert (status, body["dry_run"], body["ids"], worker.executed) == (200, True, ["a"], [])
    status, body = await ask(worker, url, json={"ids": ["a"], "dry_run": False})
    assert (status, [values[0] for values in worker.executed]) == (200, ["a"])
    assert (await ask(worker, url, json={"ids": ["nobody"]}))[0] == 404


@pytest.mark.parametrize("body", [{}, {"ids": []}, {"ids": ["a"] * 101}, {"ids": [""]}, {"ids": ["a"], "x": 1}])
async def test_a_choice_that_names_none_or_too_many_is_refused(body: dict[str, Any]) -> None:
    assert (await ask(Letters(), "/api/v1/dlq/actions/replay", json=body))[0] == 422


def test_a_payload_is_readable_whatever_it_is() -> None:
    assert readable(b'{"a":1}') == ('{\n  "a": 1\n}', "json")
    assert readable("текст\n".encode()) == ("текст\n", "text")
    assert readable(b"\xff\x00") == ("ff 00", "bytes")
    assert readable(b"a\x00b") == ("61 00 62", "bytes")
    assert readable(b"") == ("", "text")
