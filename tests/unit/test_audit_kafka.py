"""What `vision audit` reads from Kafka: which records of a post count as a reason for another event."""

from __future__ import annotations

import orjson

from vision_app import topics
from vision_app.audit.kafka_reader import _Reader
from vision_app.audit.ledger import Ledgers
from vision_app.audit.scope import Scope
from vision_app.events import read_json
from vision_app.messages import REPLAY_HEADER, AskAgain, Failed, MediaOutcome, Opened
from vision_app.operations.kafka_log import Record
from vision_app.operations.neighbours import never_uploaded, uploaded_event
from vision_app.settings import load_settings

POST = ("acme", "42")
EVENT = read_json(orjson.dumps(uploaded_event(*POST, [never_uploaded("acme", "x")], "t-1")), default_tenant="default")
OPENED = Opened(event=EVENT, verdicts=[], input_id="stream/1-0", times={})
OUTCOME = MediaOutcome(
    tenant_id="acme", post_id="42", trace_id="t-1", sha256="ab", dispatch=1, outcome=Failed(reason="x")
)


def judged(*records: tuple[AskAgain | Opened | MediaOutcome, bool]) -> dict[str, int]:
    reader = _Reader(load_settings(), Scope.of(0, 2**60, None), {}, Ledgers())
    for offset, (message, replayed) in enumerate(records):
        headers = {"type": message.type.encode()} | ({REPLAY_HEADER: b"letter"} if replayed else {})
        reader.take(Record(topics.POSTS.name, 0, offset, 1000 + offset, b"acme:42", message.encode(), headers))
    assert reader.found.unreadable == 0
    return reader.found.judged[POST]


def test_a_publication_counts_once_however_often_it_is_relayed() -> None:
    assert judged((OPENED, False), (OPENED, False)) == {"stream-1-0": 1000}


def test_an_outcome_is_no_publication_but_its_replay_may_announce_the_post_again() -> None:
    assert judged((OUTCOME, False)) == {}
    assert judged((OPENED, False), (OUTCOME, True)) == {"stream-1-0": 1000, "vision.posts-0-1": 1001}


def test_a_post_asked_about_again_may_be_announced_again_as_it_was() -> None:
    again = AskAgain(tenant_id="acme", post_id="42", deferred_before_ms=1, in_work_before_ms=1)
    assert judged((OPENED, False), (again, False)) == {"stream-1-0": 1000, "vision.posts-0-1": 1001}


def test_a_replayed_opening_is_a_replay_and_a_publication() -> None:
    assert judged((OPENED, True)) == {"stream-1-0": 1000, "vision.posts-0-0": 1000}
