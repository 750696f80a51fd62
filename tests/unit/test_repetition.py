"""A repeated sentence: ten lines, then its count once an interval. Other sentences are not affected."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.test_logging import lines
from vision_app.telemetry.metrics import REGISTRY
from vision_app.telemetry.repetition import INTERVAL_SECONDS, MAX_SENTENCES, SHOWN_IN_FULL, Summarising


class Desk:
    """A handler with a test clock, and what it wrote."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.stream = io.StringIO()
        self.handler = Summarising(self.stream)
        self.handler.clock = lambda: self.now
        self.handler.setFormatter(_Fields())

    def say(self, message: Any, *args: Any, level: int = logging.ERROR, name: str = "lib", **more: Any) -> None:
        self.handler.handle(logging.LogRecord(name, level, "f.py", 1, message, args, more.get("exc_info")))

    @property
    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    @property
    def repeated(self) -> list[int]:
        return [line["repeated"] for line in self.said if line["repeated"]]


class _Fields(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = dict(record.msg) if isinstance(record.msg, dict) else {"event": record.getMessage(), **vars(record)}
        wanted = ("event", "repeated", "within_seconds", "further", "post_id", "attempt")
        return json.dumps({name: fields.get(name) for name in wanted})


@pytest.fixture
def desk() -> Iterator[Desk]:
    opened = Desk()
    yield opened
    opened.handler.close()


def counted() -> float:
    return REGISTRY.get_sample_value("vision_log_lines_counted_total", {"level": "error"}) or 0


def test_a_flood_is_ten_lines_and_one_number_an_interval(desk: Desk) -> None:
    before = counted()
    for number in range(7700):  # 30 s
        desk.now = 1000 + number / 256
        desk.say("Topic %s not found in cluster metadata", "vision.media")
    assert len(desk.said) == SHOWN_IN_FULL
    assert [bool(line["further"]) for line in desk.said] == [False] * 9 + [True]
    for minute in range(1, 4):
        for second in range(60):
            desk.now = 1000 + minute * INTERVAL_SECONDS + second
            desk.say("Topic %s not found in cluster metadata", "vision.media")
    assert desk.repeated == [7690, 60, 60]
    assert [line["within_seconds"] for line in desk.said[SHOWN_IN_FULL:]] == [60, 60, 60]
    assert counted() - before == 7690 + 180


def test_the_count_is_written_although_no_further_line_comes(desk: Desk) -> None:
    for _ in range(25):
        desk.say("gone")
    desk.now += INTERVAL_SECONDS - 1
    desk.handler.report_due()
    assert desk.repeated == []
    desk.now += 1
    desk.handler.report_due()
    assert desk.repeated == [15]
    desk.now += INTERVAL_SECONDS
    desk.handler.report_due()
    assert desk.repeated == [15]


def test_a_reminder_is_set_and_only_one() -> None:
    desk = Desk()
    desk.handler.interval_seconds = 0.05
    desk.handler.clock = Summarising.clock
    before = {thread.ident for thread in threading.enumerate()}
    for _ in range(30):
        desk.say("gone")
    reminders = [thread for thread in threading.enumerate() if thread.ident not in before]
    for thread in reminders:
        assert thread.daemon
        thread.join()
    assert sum(desk.repeated) + sum(not line["repeated"] for line in desk.said) == 30
    desk.handler.close()


def test_counts_are_written_at_the_end(desk: Desk) -> None:
    for _ in range(12):
        desk.say("gone")
    desk.handler.close()
    assert desk.repeated == [2]


def test_a_rare_line_is_always_written_in_full(desk: Desk) -> None:
    for _ in range(100):
        desk.now += INTERVAL_SECONDS / 5
        desk.say("now and then")
    assert len(desk.said) == 100
    assert desk.repeated == []


def test_after_a_flood_a_line_is_written_in_full_again(desk: Desk) -> None:
    for _ in range(100):
        desk.say("gone")
    desk.now += 2 * INTERVAL_SECONDS
    for _ in range(3):
        desk.say("gone")
    assert [line["repeated"] for line in desk.said[SHOWN_IN_FULL:]] == [90, None, None, None]


def test_numbers_and_addresses_of_a_library_do_not_make_another_sentence(desk: Desk) -> None:
    for number in range(20):
        desk.say("retrying (%d attempts left) <Future at 0x%x>", number, number * 4096)
    assert len(desk.said) == SHOWN_IN_FULL


def test_other_loggers_levels_texts_and_faults_are_other_sentences(desk: Desk) -> None:
    def fault(kind: type[Exception]) -> Any:
        return (kind, kind("away"), None)

    for _ in range(SHOWN_IN_FULL):
        desk.say("gone")
        desk.say("gone", name="other")
        desk.say("gone", level=logging.WARNING)
        desk.say("gone", exc_info=fault(OSError))
        desk.say("gone", exc_info=fault(KeyError))
        desk.say("gone: %s", "vision.posts")
    assert len(desk.said) == 6 * SHOWN_IN_FULL


def test_lines_of_ours_about_other_posts_are_never_taken_together(desk: Desk) -> None:
    for number in range(50):
        desk.say({"event": "analysis_completed", "post_id": f"p{number}", "timestamp": number})
    assert len(desk.said) == 50
    for number in range(50):
        desk.say({"event": "trying again", "post_id": "p", "attempt": number, "error": f"refused {number}"})
    assert len(desk.said) == 50 + SHOWN_IN_FULL


def test_a_text_that_cannot_be_formatted_is_left_to_the_logger(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.say("%d of %d", "one")
    assert "Traceback" in capsys.readouterr().err


def test_only_so_many_sentences_are_remembered_and_none_is_lost(desk: Desk) -> None:
    for _ in range(15):
        desk.say("first")
    for number in range(MAX_SENTENCES):
        desk.say({"event": "another", "post_id": str(number)})
    assert len(desk.handler._said) == MAX_SENTENCES
    assert desk.repeated == [5]


def test_many_threads_say_the_same_and_every_line_is_written_or_counted(desk: Desk) -> None:
    def talk() -> None:
        for _ in range(500):
            desk.say("gone")

    threads = [threading.Thread(target=talk) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    desk.handler.close()
    assert sum(desk.repeated) + SHOWN_IN_FULL == 4000


def test_ours_and_the_libraries_lines_go_through_it() -> None:
    """Checks in a separate process what the real stderr gets, also after Faust has applied the configuration again."""
    body = """
import logging.config
for again in range(2):
    for n in range(500):
        logging.getLogger("aiokafka.cluster").error("Topic %s not found in cluster metadata", "vision.media")
        log.warning("kafka_send_failed", attempt=n)
        log.info("entry_relayed", post_id=f"p{n}")
    if not again:
        logging.config.dictConfig(logging_config(settings))
"""
    told = lines(body)
    theirs = [line for line in told if line["logger"] == "aiokafka.cluster"]
    ours = [line for line in told if line["event"] == "kafka_send_failed"]
    for said in (theirs, ours):
        assert [line["repeated"] for line in said if "repeated" in line] == [490, 490]
        assert len(said) == 2 * (SHOWN_IN_FULL + 1)
    assert sum(line["event"] == "entry_relayed" for line in told) == 1000
