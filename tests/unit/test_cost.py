"""The arithmetic of cost, the prices in the settings, and the forms in which `vision cost` prints it."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from decimal import Decimal

import orjson
import pytest

from vision_app.cli.cost import as_csv_text, as_dict
from vision_app.operations.cost import CostReport, Month, money_of, month, month_of, price_of, report
from vision_app.settings import SettingsError, load_settings, parse_prices
from vision_app.stores.costs import Period, Saved, Spent

START, END = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
PRICES = parse_prices("GigaChat-Pro=1.5, GigaChat-Max=2")
MONTH = Month("2026-11", 0, Decimal(0), 0, Decimal(0))


def spent(group: str, tokens: int, *, calls: int = 1, model: str = "GigaChat-Pro:2.0", cut_off: int = 0) -> Spent:
    return Spent(group, model, calls, tokens, cut_off)


def made(charges: list[Spent], saved: list[Saved] | None = None, by: str = "tenant") -> CostReport:
    return report(by, Period(START, END), charges, saved or [], PRICES, MONTH)  # type: ignore[arg-type]  # a literal


def test_groups_add_up_over_models_and_the_dearest_is_first() -> None:
    found = made([spent("a", 1000), spent("b", 3000, calls=2), spent("a", 500, model="GigaChat-Max", cut_off=200)])
    assert [(row.group, row.calls, row.tokens, row.cut_off_tokens, row.money) for row in found.rows] == [
        ("b", 2, 3000, 0, Decimal("4.50")),
        ("a", 2, 1500, 200, Decimal("2.50")),
    ]
    assert (found.total.calls, found.total.tokens, found.total.money) == (4, 4500, Decimal("7.00"))


def test_days_are_in_their_order() -> None:
    found = made([spent("2026-11-02", 10), spent("2026-11-01", 5), spent("2026-11-03", 1)], by="day")
    assert [row.group for row in found.rows] == ["2026-11-01", "2026-11-02", "2026-11-03"]


def test_savings_by_the_cache_are_exact_and_the_others_estimated_by_the_mean_of_a_call() -> None:
    saved = [Saved("a", "cache", 3, 2400), Saved("a", "single_flight", 1, 700), Saved("a", "policy", 5, 0)]
    found = made([spent("a", 1500, calls=2)], [*saved, Saved("c", "deferred", 2, 0)])
    (a, c) = found.rows
    assert [(one.how, one.media, one.tokens, one.estimated) for one in a.saved] == [
        ("cache", 3, 2400, False),
        ("single_flight", 1, 700, False),
        ("policy", 5, 5 * 750, True),
        ("ocr", 0, 0, True),
        ("deferred", 0, 0, True),
    ]
    assert (c.group, c.tokens, c.money) == ("c", 0, Decimal("0.00"))
    assert {one.how: one.tokens for one in found.total.saved}["deferred"] == 2 * 750


def test_without_any_call_nothing_is_estimated() -> None:
    assert {one.tokens for one in made([], [Saved("a", "policy", 5, 0)]).rows[0].saved} == {0}


def test_a_model_without_a_price_is_named_and_makes_the_money_unknown() -> None:
    found = made([spent("a", 10, model="GigaChat-Lite"), spent("b", 1000)])
    assert [(row.group, row.money) for row in found.rows] == [("b", Decimal("1.50")), ("a", None)]
    assert (found.total.money, found.unpriced) == (None, ["GigaChat-Lite"])


def test_a_price_holds_for_every_version_of_its_model_and_the_full_name_wins() -> None:
    prices = parse_prices("M=1,M:2=3")
    assert [price_of(name, prices) for name in ("M", "M:1", "M:2", "M:2.1", "N")] == [1, 1, 3, 1, None]


def test_money_is_rounded_once_to_kopecks() -> None:
    assert money_of([spent("a", 1), spent("a", 1), spent("a", 1)], parse_prices("GigaChat-Pro=3.4")) == Decimal("0.01")


def test_the_forecast_is_linear_over_the_month() -> None:
    now = datetime(2026, 11, 11, tzinfo=UTC)  # ten of thirty days
    found = month([spent("x", 2000)], PRICES, START, END, now)
    assert (found.tokens, found.money, found.forecast_tokens, found.forecast_money) == (
        2000,
        Decimal("3.00"),
        6000,
        Decimal("9.00"),
    )


@pytest.mark.parametrize(("at", "end"), [("2026-12-31T23:59:59+00:00", 2027), ("2027-01-01T00:30:00+01:00", 2027)])
def test_december_ends_with_the_year(at: str, end: int) -> None:
    start, until = month_of(datetime.fromisoformat(at))
    assert (start, until) == (datetime(2026, 12, 1, tzinfo=UTC), datetime(end, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("wrong", ["M", "=1", "M=", "M=x", "M=-1", "M=NaN", "M=1,M=2", "M=inf"])
def test_a_wrong_price_is_refused_with_the_form_it_must_have(wrong: str) -> None:
    with pytest.raises(SettingsError, match="VISION_PRICES"):
        load_settings(vision_prices=wrong)


def test_csv_has_a_line_a_group_and_no_formula() -> None:
    text = as_csv_text(made([spent("=1+1", 1000), spent('a,"b"', 10)], [Saved("=1+1", "cache", 2, 9)]))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["tenant"], row["tokens"], row["roubles"], row["saved_cache_tokens"]) for row in rows] == [
        ("'=1+1", "1000", "1.50", "9"),
        ('a,"b"', "10", "0.02", "0"),
    ]


def test_json_has_times_and_money_as_text() -> None:
    body = orjson.loads(orjson.dumps(as_dict(made([spent("a", 1000)]))))
    assert (body["since"], body["total"]["money"], body["rows"][0]["tokens"]) == (START.isoformat(), "1.50", 1000)
