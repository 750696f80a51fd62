"""Rates of the stages from samples of positions."""

from __future__ import annotations

from vision_app.telemetry.throughput import WINDOW_SECONDS, Throughput


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def sampled(*samples: tuple[float, dict[str, int]]) -> dict[str, float]:
    """The rates after samples of (time, place → position) of one stage."""
    clock = Clock()
    throughput = Throughput(clock)
    for clock.now, positions in samples:
        throughput.sample({place: ("media", position) for place, position in positions.items()}, {})
    return throughput.per_second()


def test_no_rate_is_known_before_two_samples() -> None:
    assert sampled() == {}
    assert sampled((0, {"a": 5})) == {}


def test_the_rate_is_what_all_places_of_a_stage_gained() -> None:
    assert sampled((0, {"a": 5, "b": 0}), (10, {"a": 25, "b": 10})) == {"media": 3.0}


def test_a_partition_that_has_just_come_counts_from_its_second_sample() -> None:
    assert sampled((0, {"a": 0}), (10, {"a": 10, "b": 1_000_000})) == {"media": 1.0}
    assert sampled((0, {"a": 0}), (10, {"a": 10, "b": 1_000}), (20, {"a": 20, "b": 1_020})) == {"media": 2.0}


def test_a_position_that_goes_back_counts_as_nothing() -> None:
    assert sampled((0, {"a": 500}), (10, {"a": 0}), (20, {"a": 20})) == {"media": 1.0}


def test_only_the_last_minute_counts() -> None:
    busy = [(float(at), {"a": at * 10}) for at in range(0, 100, 10)]
    idle = [(100.0 + at, {"a": 900}) for at in range(0, int(WINDOW_SECONDS) + 20, 10)]
    assert sampled(*busy, *idle) == {"media": 0.0}
