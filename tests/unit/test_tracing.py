"""The W3C trace context: derived from our trace ids, or the producer's."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_app.events import read_entry, read_json
from vision_app.messages import TRACEPARENT, Grant, MediaTask, Medium, Opened, Settle, Skipped
from vision_app.telemetry.tracing import root_of_message, trace_of, traceparent_for, traceparent_in

PRODUCER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def uploaded(**more: Any) -> dict[str, Any]:
    return {"tenant_id": "t", "post_id": "p", "trace_id": "tr", "media_files": [{"sha256": "ab"}], **more}


@given(st.text(max_size=50))
def test_the_same_trace_id_gives_the_same_valid_traceparent(trace_id: str) -> None:
    root = traceparent_for(trace_id)
    assert root == traceparent_for(trace_id)
    assert TRACEPARENT.fullmatch(root)
    assert root.endswith("-01")


def test_different_trace_ids_give_different_traces() -> None:
    assert trace_of(traceparent_for("t-1001")) != trace_of(traceparent_for("t-1002"))


def test_posts_that_share_a_trace_id_share_the_trace_and_have_spans_of_their_own() -> None:
    one, two = traceparent_for("t", post="one"), traceparent_for("t", post="two")
    assert trace_of(one) == trace_of(two)
    assert one != two


def test_the_producers_trace_and_flags_count() -> None:
    root = traceparent_for("tr", f"{PRODUCER[:-2]}00", post="p")
    assert trace_of(root) == trace_of(PRODUCER)
    assert root[36:52] not in (PRODUCER[36:52], traceparent_for("tr", post="q")[36:52])
    assert root.endswith("-00"), "what the producer does not sample, we do not"


@pytest.mark.parametrize(
    "text", ["", "00-x", f"00-{'0' * 32}-{'1' * 16}-01", f"00-{'1' * 32}-{'0' * 16}-01", PRODUCER.upper(), 7, ["x"]]
)
def test_what_is_no_traceparent_does_not_hold_up_the_post_and_does_not_count(text: Any) -> None:
    event = read_entry({"data": _json(uploaded(traceparent=text))}, default_tenant="d")
    assert event.traceparent is None
    assert traceparent_in({"traceparent": str(text).encode()}) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"data": '{"tenant_id":"t","post_id":"p","media_files":[{"sha256":"ab"}]}', "traceparent": PRODUCER},
        {
            "data": f'{{"tenant_id":"t","post_id":"p","media_files":[{{"sha256":"ab"}}],"traceparent":"{PRODUCER}"}}',
            "traceparent": traceparent_for("of the field"),
        },
        {"tenant_id": "t", "post_id": "p", "media_files": '[{"sha256":"ab"}]', "traceparent": PRODUCER},
    ],
    ids=["beside the event", "in the event, which counts first", "one field per key"],
)
def test_the_producers_traceparent_is_read_from_an_entry(fields: dict[str, str]) -> None:
    event = read_entry(fields, default_tenant="d")
    assert event.traceparent == PRODUCER
    assert read_json(event.encode(), default_tenant="d").traceparent == PRODUCER, "it stays with the recorded event"


def test_every_message_about_a_post_finds_the_same_first_span() -> None:
    event = read_json(_json(uploaded(traceparent=PRODUCER)), default_tenant="d")
    task = MediaTask(
        tenant_id="t", post_id="p", trace_id="tr", medium=Medium(sha256="ab"), dispatch=1, traceparent=PRODUCER
    )
    about = [
        Opened(event=event, verdicts=[]),
        task,
        Grant(id="g", provider="gigachat", estimate=1, task=task),
        task.outcome(Skipped(reason="budget")),
    ]
    roots = {root_of_message(message) for message in about}
    assert len(roots) == 1
    assert trace_of(str(roots.pop())) == trace_of(PRODUCER)


def test_a_command_without_a_trace_has_no_first_span() -> None:
    assert root_of_message(Settle(tenant_id="t", grant_id="g", tokens=1, post_id="p")) is None


def _json(event: dict[str, Any]) -> bytes:
    return orjson.dumps(event)
