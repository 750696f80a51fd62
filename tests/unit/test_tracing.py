"""The W3C trace context derived from our trace ids."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_app.telemetry.tracing import child, traceparent_for


@given(st.text(max_size=50))
def test_the_same_trace_id_gives_the_same_traceparent_and_children_stay_in_the_trace(trace_id: str) -> None:
    root = traceparent_for(trace_id)
    assert root == traceparent_for(trace_id)
    below = child(root)
    assert below[:36] == root[:36]
    assert below != root
    assert below[-3:] == "-01"
    assert child(below)[:36] == root[:36]


def test_different_trace_ids_give_different_traces() -> None:
    assert traceparent_for("t-1001")[:36] != traceparent_for("t-1002")[:36]


@pytest.mark.parametrize("text", ["", "00-x", f"00-{'0' * 32}-{'1' * 16}-01", f"00-{'1' * 32}-{'0' * 16}-01"])
def test_what_is_no_traceparent_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a W3C traceparent"):
        child(text)
