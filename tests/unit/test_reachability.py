"""What calls show about the state of a service."""

from __future__ import annotations

import pytest

from vision_app.telemetry.reachability import Reachability


def test_a_failure_counts_until_something_works() -> None:
    service = Reachability()
    assert service.trouble is None
    service.failed("refused")
    assert service.trouble == "refused"
    service.worked()
    assert service.trouble is None


def test_a_missing_answer_is_reported_while_it_lasts() -> None:
    now = [100.0]
    service = Reachability(clock=lambda: now[0])
    with service.call():
        now[0] += 2
        with service.call():
            assert service.trouble is None
            now[0] += 2
            assert service.trouble == "no answer for 4 s"
    assert service.trouble is None


def test_a_call_that_raises_is_over() -> None:
    service = Reachability()
    with pytest.raises(OSError, match="gone"), service.call():
        raise OSError("gone")
    assert service.trouble is None


def test_for_how_long_nothing_has_worked() -> None:
    now = [100.0]
    service = Reachability(clock=lambda: now[0])
    assert service.trouble_seconds == 0
    service.failed("refused")
    now[0] += 20
    service.failed("refused again")
    assert service.trouble_seconds == 20
    service.worked()
    assert service.trouble_seconds == 0
    with service.call():
        now[0] += 7
        assert service.trouble_seconds == 7


def test_a_failure_that_nobody_tries_to_mend_is_forgotten() -> None:
    service = Reachability()
    service.failed("refused")
    service.gave_up()
    assert service.trouble is None
