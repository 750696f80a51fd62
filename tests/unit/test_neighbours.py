"""The pure parts of the building blocks: events as producers write them, announcements, what is left to do."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_app import topics
from vision_app.events import read_entry
from vision_app.operations import neighbours
from vision_app.operations.backlog import Backlog, backlog_by_topic, worked_off
from vision_app.settings import load_settings

NAMES = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=40)


@given(tenant=NAMES, post=NAMES, trace=NAMES, version=st.sampled_from(["v1", "1", "1.0"]))
def test_the_worker_reads_what_the_producer_writes(tenant: str, post: str, trace: str, version: str) -> None:
    medium = neighbours.never_uploaded(tenant, "picture")
    event = neighbours.uploaded_event(tenant, post, [medium, medium], trace, schema_version=version)
    read = read_entry({"event": event["event_type"], "data": orjson.dumps(event)}, default_tenant="default")
    assert (read.tenant_id, read.post_id, read.trace_id) == (tenant, post, trace)
    assert read.media_files == [medium, medium]
    assert read.requires_vision


def test_extra_fields_are_added_or_replace() -> None:
    event = neighbours.uploaded_event("t", "p", [], "x", requires_vision=False, language="ru")
    assert (event["requires_vision"], event["language"]) == (False, "ru")


def test_media_that_were_never_uploaded_differ_by_name_and_live_in_their_tenants_folder() -> None:
    one, two = (neighbours.never_uploaded("tenant", name) for name in ("one", "two"))
    assert one.sha256 != two.sha256
    assert one.s3_key == f"media/tenant/{one.sha256[:2]}/{one.sha256}.jpg"


def test_an_announcement_is_read_with_its_time() -> None:
    event = neighbours.announced(b"1795371568659-3", {b"event": b"posts.vision.analyzed", b"data": b'{"post_id": "p"}'})
    assert (event.event_type, event.post_id, event.at_ms) == ("posts.vision.analyzed", "p", 1795371568659)


def test_an_announcement_without_json_is_refused() -> None:
    with pytest.raises(ValueError, match="unexpected"):
        neighbours.announced("1-0", {"event": "x", "data": "<html>"})


@pytest.mark.parametrize(
    ("partition", "left"),
    [
        (("t", 0, 5, 5), {}),
        (("t", 0, 5, 3), {"t": 2}),
        (("t", 4, 5, 0), {"t": 1}),  # the first four were deleted by retention, nothing was committed yet
        (("t", 0, 0, 0), {}),
        (("t", 0, 0, 7), {}),  # the topic was recreated; the group has an offset of the old one
    ],
)
def test_backlog_counts_what_is_there_and_not_committed(
    partition: tuple[str, int, int, int], left: dict[str, int]
) -> None:
    assert backlog_by_topic([partition]) == left


def test_backlog_adds_up_partitions() -> None:
    assert backlog_by_topic([("t", 0, 5, 4), ("t", 0, 9, 7), ("u", 0, 1, 1)]) == {"t": 3}


def test_an_empty_backlog_is_false_and_a_full_one_says_where() -> None:
    assert not Backlog()
    backlog = Backlog({"in": 1}, {"in": 2}, {"vision.media": 3})
    assert backlog
    assert str(backlog) == "in: 1 unread, in: 2 pending, vision.media: 3 waiting"


def test_dead_letters_are_no_backlog_and_the_graphs_topic_counts_only_if_enabled() -> None:
    on, off = (worked_off(load_settings(feature_neo4j_enabled=enabled)) for enabled in (True, False))
    assert topics.DLQ.name not in on
    assert set(on) - set(off) == {topics.SINK_NEO4J.name}
