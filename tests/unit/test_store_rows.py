"""Rows of Postgres from results of posts: which medium represents the post, what is summed, what is cut."""

from __future__ import annotations

import pytest

from tests.samples import analysis, analyzed, medium, missing, post
from vision_app.messages import Failed, Ocr
from vision_app.stores.ordering import winners
from vision_app.stores.rows import MAX_OCR_CHARS, enrichment_row, media_rows
from vision_app.stores.text import storable


def test_the_first_analyzed_medium_in_list_order_speaks_for_the_post() -> None:
    row = enrichment_row(post([missing(), analyzed("Второй"), analyzed("Третий")]))
    assert (row["vision_description"], row["data"]["description"]) == ("Второй", "Второй")
    assert row["summary"] == "Второй\nТретий"
    assert (row["status"], row["album_size"]) == ("partial", 3)
    assert [item["status"] for item in row["data"]["enrichments"]] == ["skipped", "analyzed", "analyzed"]


def test_twins_are_paid_once() -> None:
    twin = medium()
    row = enrichment_row(post([analyzed(tokens=700), analyzed(tokens=700)], media=[twin, twin]))
    assert row["vision_tokens_used"] == 700
    assert [item["tokens_billed"] for item in row["data"]["media"]] == [700, 0]
    assert row["s3_media_keys"] == [twin.s3_key]


def test_a_paid_failure_counts_as_spent() -> None:
    failed = Failed(reason="analysis_failed", details={"tokens_billed": 55})
    assert enrichment_row(post([failed]))["vision_tokens_used"] == 55


def test_a_cached_answer_is_a_hit_only_if_all_are() -> None:
    assert enrichment_row(post([analyzed(cached=True)]))["vision_analysis_reason"] == "cache_hit"
    assert enrichment_row(post([analyzed(cached=True), analyzed()]))["vision_analysis_reason"] == "new"
    assert enrichment_row(post([analyzed(provider="ocr_fallback")]))["vision_analysis_reason"] == "fallback"
    assert enrichment_row(post([missing()]))["vision_analysis_reason"] == "skipped"


def test_a_long_text_is_cut_in_its_column() -> None:
    seen = analysis(ocr=Ocr(text="я" * (MAX_OCR_CHARS + 5), engine="tesseract"))
    assert len(enrichment_row(post([analyzed(seen=seen)]))["vision_ocr_text"]) == MAX_OCR_CHARS


def test_a_failure_is_named_in_the_error() -> None:
    row = enrichment_row(post([Failed(reason="analysis_failed")]))
    assert row["status"] == "error"
    assert row["error"].endswith(": analysis_failed")


def test_media_have_usable_positions_and_roles() -> None:
    twin = medium(position=-1, role="banner")
    rows = media_rows(post([analyzed()] * 3, media=[twin, twin, medium(position=7, role="thumbnail")]), "bucket")
    assert [(row["position"], row["role"]) for row in rows] == [(0, "primary"), (7, "thumbnail")]


def test_characters_that_stores_refuse_are_replaced() -> None:
    assert storable({"a\0": ["я\0ё", "\ud800", 1, 2**70, None]}) == {"a": ["яё", "?", 1, 2**63 - 1, None]}


def test_an_analyzed_result_wins_over_a_later_one_without_analysis() -> None:
    early = post([analyzed()], tenant="t", post_id="p", emission=(1, 0))
    later = post([missing()], tenant="t", post_id="p", emission=(2, 0))
    opened = post([None], tenant="t", post_id="p", emission=(3, 0))
    assert winners([early, later, opened]) == [0]
    assert winners([later, opened]) == [0]
    assert winners([opened]) == []


def test_a_time_that_no_calendar_has_is_an_error_of_the_record() -> None:
    with pytest.raises((ValueError, OverflowError, OSError)):
        enrichment_row(post([None], emission=(2**62, 1)))
