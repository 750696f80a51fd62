"""The pure parts of `vision bench all`: spread, ratios, comparison with a tolerance, table, JSON, options."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner
from rich.console import Console

from vision_app.audit.material import BilledCall
from vision_app.cli import main
from vision_app.lab.bench.everything import GOALS, Everything, as_json, show
from vision_app.lab.bench.figures import (
    Earlier,
    Figure,
    NotABenchmark,
    Spread,
    Unit,
    compare,
    read_earlier,
    rows_of,
)
from vision_app.lab.bench.laboratory import COUNT, MS, MS_A_POST, PER_CENT, PER_SECOND, Wish
from vision_app.lab.bench.scenarios import SCENARIOS
from vision_app.lab.bench.streams_in_use import StreamsInUse, billed_again
from vision_app.lab.cli.bench import chosen_sizes


def result(*repeats: list[Figure], reference_ms: float = 10, sizes: dict[str, list[int]] | None = None) -> Everything:
    wish = Wish(sizes or {"capacity": [200], "pace": [15], "provider": [100]}, 50)
    return Everything(wish, [*repeats], [reference_ms] * len(repeats))


def capacity(value: float, plain: float | None = None, unit: Unit = MS_A_POST) -> Figure:
    return Figure("capacity", "new picture, CPU", unit, value, plain)


def earlier(run: Everything) -> Earlier:
    return Earlier.model_validate_json(orjson.dumps(as_json(run, None)))


def compared(now: Everything, before: Everything, tolerance: float = 0.25) -> tuple[int, list[str], list[str]]:
    found = compare(now.rows, now.wish.sizes, earlier(before), tolerance)
    return found.compared, list(found.worse), list(found.left_out)


# --- spread and ratios ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"), [([3.0], (3, 3, 3)), ([5.0, 1.0, 2.0], (2, 1, 5)), ([1.0, 2.0, 3.0, 10.0], (2.5, 1, 10))]
)
def test_the_spread_of_repeats(values: list[float], expected: tuple[float, float, float]) -> None:
    assert Spread.of(values) == Spread(*expected)


def test_the_ratio_is_the_median_of_the_ratios_within_each_repeat() -> None:
    [row] = result([capacity(20, 10)], [capacity(90, 30)], [capacity(40, 10)]).rows
    assert (row.ratio, row.comparable) == (3, 3)
    assert (row.ours, row.plain) == (Spread(40, 20, 90), Spread(10, 10, 30))


@pytest.mark.parametrize(
    ("unit", "expected"), [(MS, 5), (MS_A_POST, 5), (PER_SECOND, 500), (PER_CENT, 50), (COUNT, None)]
)
def test_without_a_plain_worker_a_figure_is_measured_by_its_time(unit: Unit, expected: float | None) -> None:
    [row] = result([capacity(50, None, unit)]).rows
    assert (row.ratio, row.comparable) == (None, expected)


def test_a_plain_figure_of_zero_has_no_ratio() -> None:
    [row] = result([capacity(5, 0)]).rows
    assert (row.ratio, row.comparable) == (None, None)


def test_each_repeat_is_measured_by_its_own_reference() -> None:
    figure = Figure("pace", "p50", MS, 100)
    [row] = rows_of([[figure], [figure], [figure]], [10, 20, 50], {})
    assert row.comparable == 5


@pytest.mark.parametrize(
    ("value", "unit", "reached"),
    [(14, MS_A_POST, True), (14.1, MS_A_POST, False), (60, PER_SECOND, True), (59, PER_SECOND, False)],
)
def test_a_goal_is_reached_from_the_better_side(value: float, unit: Unit, reached: bool) -> None:
    name = "new picture, CPU" if unit is MS_A_POST else "new picture, rate"
    [row] = rows_of([[Figure("capacity", name, unit, value)]], [10], GOALS)
    assert row.is_reached is reached


# --- comparison -------------------------------------------------------------------------------------------------------


def test_a_slower_machine_is_not_worse() -> None:
    before = result([capacity(30, 10), Figure("pace", "p50", MS, 80), Figure("relay", "rate", PER_SECOND, 1000)])
    now = result(
        [capacity(90, 30), Figure("pace", "p50", MS, 240), Figure("relay", "rate", PER_SECOND, 333.4)], reference_ms=30
    )
    assert compared(now, before, 0.01) == (3, [], [])


@pytest.mark.parametrize(("ours", "sentences"), [(30, 0), (37.4, 0), (37.6, 1), (15, 0)])
def test_what_takes_longer_by_more_than_the_tolerance_is_told(ours: float, sentences: int) -> None:
    _, worse, _ = compared(result([capacity(ours, 10)]), result([capacity(30, 10)]))
    assert len(worse) == sentences
    if worse:
        assert worse == [
            "capacity, new picture, CPU: the ratio to the plain worker is 3.76 and was 3: worse by 25%, more than 25%"
        ]


@pytest.mark.parametrize(("rate", "sentences"), [(100, 0), (81, 0), (79, 1), (200, 0)])
def test_a_rate_that_falls_is_told(rate: float, sentences: int) -> None:
    before, now = result([capacity(100, 100, PER_SECOND)]), result([capacity(rate, 100, PER_SECOND)])
    assert len(compared(now, before)[1]) == sentences


def test_what_was_nothing_and_is_something_is_worse_at_any_tolerance() -> None:
    [sentence] = compared(result([Figure("pace", "p50", MS, 3)]), result([Figure("pace", "p50", MS, 0)]), 99)[1]
    assert sentence.endswith("is 0.3 and was 0: worse beyond any share")


def test_what_is_only_shown_is_never_compared() -> None:
    before, now = ([Figure("provider", "calls billed twice", COUNT, value)] for value in (0, 9))
    assert compared(result(now), result(before)) == (0, [], [])


def test_what_the_earlier_run_does_not_have_or_measured_otherwise_is_said() -> None:
    before = result([capacity(30, 10)], sizes={"capacity": [400], "pace": [15]})
    now = result([capacity(30, 10), Figure("pace", "p50", MS, 3)], sizes={"capacity": [200], "pace": [15]})
    assert compared(now, before) == (
        0,
        [],
        ["capacity: measured with size 200, then with 400", "pace, p50: the earlier run does not have it"],
    )


@pytest.mark.parametrize("content", [b"", b"{}", b'{"format": 99, "rows": [], "sizes": {}}', b"[]"])
def test_another_file_is_refused_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "other.json"
    file.write_bytes(content)
    with pytest.raises(NotABenchmark, match="vision bench all --json > FILE"):
        read_earlier(file)


# --- table and JSON ---------------------------------------------------------------------------------------------------


def shown(run: Everything, before: Everything | None = None) -> str:
    written = io.StringIO()
    comparison = compare(run.rows, run.wish.sizes, earlier(before), 0.25) if before else None
    show(Console(file=written, width=150), run, comparison)
    return " ".join(written.getvalue().split())


def test_the_table_shows_ours_plain_ratio_and_goal() -> None:
    one = shown(result([capacity(35, 12.5), Figure("pace", "p50", MS, 102)]))
    assert "│ capacity │ new picture, CPU │ ms a post │ 35 │ 12.5 │ 2.80 │ 14 │" in one
    assert "│ pace │ p50 │ ms │ 102 │ │ │ │" in one
    assert "min..max" not in one


def test_the_table_of_repeats_shows_the_spread_and_a_goal_that_is_reached() -> None:
    assert "│ 12 │ 11..13 │ 10 │ 1.20 │ 14 ✓ │" in shown(result(*([capacity(ms, 10)] for ms in (11, 12, 13))))


def test_faults_and_worse_figures_are_below_the_table() -> None:
    run = result([capacity(60, 10)])
    run.faults.append("capacity, duplicate: 3 of 4 ended")
    told = shown(run, result([capacity(30, 10)]))
    assert "✗ capacity, duplicate: 3 of 4 ended" in told
    assert "worse by 100%, more than 25%" in told
    assert "1 figures compared, 1 worse." in told


def test_the_document_is_what_a_comparison_reads() -> None:
    run = result([capacity(35, 12.5)], [capacity(25, 12.5)])
    document: dict[str, Any] = orjson.loads(orjson.dumps(as_json(run, None)))
    assert document["plain_worker_ms_a_new_picture"] == {"median": 10, "min": 10, "max": 10}
    assert document["rows"] == [
        {
            "scenario": "capacity",
            "name": "new picture, CPU",
            "unit": "ms a post",
            "better": "less",
            "ours": {"median": 30, "min": 25, "max": 35},
            "plain": {"median": 12.5, "min": 12.5, "max": 12.5},
            "ratio": 2.4,
            "goal": 14,
            "goal_is_reached": False,
            "comparable": 2.4,
        }
    ]
    assert earlier(run).rows[0].comparable == 2.4
    assert (document["ok"], document["repeats"], document["comparison"]) == (True, 2, None)


# --- the provider's streams -------------------------------------------------------------------------------------------


def test_the_share_of_streams_in_use_weighs_each_sample_by_its_time() -> None:
    used = StreamsInUse([(10, 0), (11, 10), (13, 5), (15, 0)])
    assert used.busy_seconds(until=16) == 30
    assert used.share(10, until=16) == 0.5
    assert used.share(10, until=13) == pytest.approx(2 / 3)
    assert StreamsInUse().share(10, until=5) == 0


def test_a_picture_that_was_billed_three_times_was_lost_twice() -> None:
    calls = [BilledCall(str(n), 1, 10, pictures, "ok") for n, pictures in enumerate([("a",), ("b",), ("a",), ("a",)])]
    repairs = [BilledCall("r", 1, 10, (), "ok")] * 2
    assert billed_again([*calls, *repairs]) == 2


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--scenario", "other"], "is not one of 'relay', 'pace'"),
        (["--size", "other=5"], "'other' is no scenario; there are relay, pace"),
        (["--size", "relay=many"], "is no size; give positive whole numbers, for example relay=100"),
        (["--size", "relay"], "is no size"),
        (["--size", "relay=0"], "is no size"),
        (["--size", "relay=5,6"], "relay has one size: entries"),
        (["--repeats", "0"], "is not in the range"),
        (["--compare", "/no/such.json"], "does not exist"),
        (["--compare", __file__], "make it with `vision bench all --json > FILE`"),
    ],
)
def test_wrong_options_are_refused_before_anything_starts(options: list[str], said: str) -> None:
    refused = CliRunner().invoke(main, ["bench", "all", *options], env={"VISION_LANG": "en"})
    assert refused.exit_code == 2
    assert said in " ".join(refused.output.replace("│", " ").split())


def test_sizes_are_the_usual_ones_unless_given_in_the_order_of_the_scenarios() -> None:
    assert list(chosen_sizes([], {})) == list(SCENARIOS)
    assert chosen_sizes(["growth", "pace"], {"growth": (7, 8), "relay": (5,)}) == {"pace": (15,), "growth": (7, 8)}


def test_the_help_names_every_scenario_and_its_usual_sizes() -> None:
    told = " ".join(CliRunner().invoke(main, ["bench", "all", "--help"], env={"VISION_LANG": "en"}).output.split())
    sizes = " ".join(f"{name}={','.join(map(str, one.sizes))}" for name, one in SCENARIOS.items())
    assert f"Sizes unless given: {sizes}." in told
    assert all(f"{name}: " in told for name in SCENARIOS)


def test_every_scenario_stands_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "performance.md").read_text("utf-8")
    assert [name for name in SCENARIOS if f"| `{name}` |" not in page] == []


def test_every_goal_is_of_a_figure_that_a_scenario_has() -> None:
    assert {scenario for scenario, _ in GOALS} <= SCENARIOS.keys()
