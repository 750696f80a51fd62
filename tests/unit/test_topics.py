"""The topics and keys of each message."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.samples import AT, analyzed, medium, post
from vision_app import messages as m
from vision_app import topics
from vision_app.app import create_app
from vision_app.domain.budget import Parked
from vision_app.settings import load_settings
from vision_app.telemetry.tracing import about
from vision_app.topics import routes

TASK = m.MediaTask(tenant_id="t:1", post_id="p/2", trace_id="trace", medium=medium("abc"), dispatch=1)
RESULT = post(tenant="t:1", post_id="p/2", trace_id="trace")
LETTER = m.DeadLetter(
    id="id", origin="x", error="E", reason="r", first_seen_ms=1, last_seen_ms=1, code_version="1", key="k"
)
POST, SHA, TENANT = b"t%3A1:p%2F2", b"t%3A1:abc", b"t%3A1"

ROUTES: list[tuple[m.Message, list[tuple[str, bytes]], str]] = [
    (m.Opened(event=RESULT.event, verdicts=[]), [("vision.posts", POST)], "trace"),
    (TASK.outcome(analyzed()), [("vision.posts", POST)], "trace"),
    (m.Forget(tenant_id="t:1", post_id="p/2", completed_ms=1), [("vision.posts", POST)], ""),
    (
        m.AskAgain(tenant_id="t:1", post_id="p/2", deferred_before_ms=1, in_work_before_ms=1),
        [("vision.posts", POST)],
        "",
    ),
    (TASK, [("vision.media", SHA)], "trace"),
    (m.Grant(id="g", provider="gigachat", estimate=1, task=TASK), [("vision.analysis", SHA)], "trace"),
    (m.Reserve(tenant_id="t:1", task=TASK, estimate=1), [("vision.budget", TENANT)], "trace"),
    (m.Settle(tenant_id="t:1", grant_id="g", tokens=1), [("vision.budget", TENANT)], ""),
    (m.Lost(tenant_id="t:1", grant_id="g", estimate=1, task=TASK), [("vision.budget", TENANT)], "trace"),
    (m.Release(tenant_id="t:1", grant_id="g"), [("vision.budget", TENANT)], ""),
    (m.Reset(tenant_id="t:1"), [("vision.budget", TENANT)], ""),
    (m.SetLimit(tenant_id="t:1", limit=None), [("vision.budget", TENANT)], ""),
    (m.Pause(tenant_id="t:1"), [("vision.budget", TENANT)], ""),
    (m.Resume(tenant_id="t:1"), [("vision.budget", TENANT)], ""),
    (m.Drop(tenant_id="t:1"), [("vision.budget", TENANT)], ""),
    (m.Load(tenant_id="t:1", day="2026-11-22", spent=0), [("vision.budget", TENANT)], ""),
    (m.Wake(tenant_id="t:1"), [("vision.budget", TENANT)], ""),
    (
        RESULT,
        [("vision.sink.postgres", POST), ("vision.sink.s3", POST), ("vision.sink.neo4j", POST)],
        "trace",
    ),
    (RESULT.model_copy(update={"status": "in_work"}), [("vision.sink.postgres", POST)], "trace"),
    (
        m.Charged(tenant_id="t:1", ledger="l", grant_id="g", tokens=1, at_ms=1),
        [("vision.sink.postgres", TENANT)],
        "",
    ),
    (LETTER, [("vision.dlq", b"k")], ""),
    (LETTER.model_copy(update={"key": None, "trace_id": "trace"}), [("vision.dlq", b"id")], "trace"),
]


@pytest.mark.parametrize(("message", "expected", "trace"), ROUTES, ids=lambda value: type(value).__name__)
def test_every_message_has_its_topic_key_and_trace(
    message: m.Message, expected: list[tuple[str, bytes]], trace: str
) -> None:
    assert [(topic.name, key) for topic, key in routes(message)] == expected
    assert (getattr(about(message), "trace_id", None) or "") == trace
    for topic, _ in routes(message):
        assert m.decode(topic.model, message.encode()) == message, "whoever reads the topic cannot read this"


def test_every_message_that_carries_a_type_is_routed() -> None:
    tagged = {model for model in _subclasses(m.Message) if "type" in model.model_fields}
    assert {type(message) for message, _, _ in ROUTES} == tagged
    inboxes = {*get_args(get_args(m.PostCommand)[0]), *get_args(get_args(m.BudgetCommand)[0])}
    assert inboxes <= tagged


def test_what_does_not_travel_has_no_topic() -> None:
    with pytest.raises(TypeError, match="no topic for Parked"):
        routes(Parked(task=TASK, estimate=1, since_ms=1))


def test_the_changelogs_are_those_of_the_tables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`vision doctor` looks, without a worker, for the same names that a worker creates."""
    monkeypatch.chdir(tmp_path)
    app = create_app(load_settings(kafka_app_id="mine"))
    assert set(topics.changelogs("mine")) == {table.changelog_topic.topics[0] for table in app.tables.values()}


def test_topics_have_distinct_names_and_only_dead_letters_are_kept_longer() -> None:
    assert len({topic.name for topic in topics.ALL}) == len(topics.ALL)
    assert [topic.name for topic in topics.ALL if topic.retention == "dlq"] == ["vision.dlq"]


IDS = st.text(st.one_of(st.sampled_from(":%|/. a"), st.characters(codec="utf-8")), max_size=6)


@given(st.lists(IDS, min_size=1, max_size=3), st.lists(IDS, min_size=1, max_size=3))
def test_keys_of_different_entities_never_collide(one: list[str], other: list[str]) -> None:
    assert (m.key_of(*one) == m.key_of(*other)) == (one == other)


@given(IDS, IDS)
def test_keys_are_one_word_without_the_console_tools_separator(tenant: str, post_id: str) -> None:
    key = m.key_of(tenant, post_id)
    assert key.isascii()
    assert not set(b"| \t\n") & set(key)


def test_a_key_is_stable() -> None:
    assert m.key_of("t", "album:1") == b"t:album%3A1"
    event = m.Uploaded(
        tenant_id="т", post_id="p", trace_id="x", occurred_at=AT, idempotency_key="k", media_files=[medium("a")]
    )
    assert event.key == b"%D1%82:p"


def _subclasses(model: type[m.Message]) -> set[type[m.Message]]:
    found = set(model.__subclasses__())
    return {c for c in found.union(*(_subclasses(sub) for sub in found)) if c.__module__ == m.__name__}
