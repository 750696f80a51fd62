"""docs/schemas: made from the models, kept by every announcement, and refused by what is none."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson
import pytest
from pydantic import TypeAdapter

from tests.samples import AT, analyzed, missing, post
from tests.unit.test_announcements import large
from vision_app import events
from vision_app.events.public import AnalyzedEvent, PublicEvent, SkippedEvent
from vision_app.messages import Deferred, Failed, PostResult, Uploaded
from vision_app.streams.dead_letters import Origin, dead_letter

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import event_schemas

READER: TypeAdapter[AnalyzedEvent | SkippedEvent] = TypeAdapter(PublicEvent)
RESULTS = {
    "one": post([analyzed()]),
    "several": post([missing(), Failed(reason="analysis_failed"), analyzed()]),
    "skipped": post([missing(), Deferred(reason="budget", retry_at=AT)]),
    "without media": post([]),
    "large": large(),
}


def validator(name: str) -> Any:
    return jsonschema_rs.validator_for(orjson.loads((event_schemas.FOLDER / name).read_bytes()))


@pytest.mark.parametrize("name", event_schemas.SCHEMAS)
def test_the_files_are_made_from_the_models(name: str) -> None:
    assert (event_schemas.FOLDER / name).read_bytes() == event_schemas.text(name), "run: make reference"


def test_there_are_no_other_files() -> None:
    assert {path.name for path in event_schemas.FOLDER.iterdir()} == {*event_schemas.SCHEMAS, "README.md"}


@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)
@pytest.mark.parametrize("reduced", [False, True])
def test_every_announcement_keeps_its_schema_and_can_be_read(result: PostResult, reduced: bool) -> None:
    event_type, body = events.announcement(result)
    body = orjson.loads(orjson.dumps(events.reduced(body) if reduced else body))
    validator(f"{event_type.replace('.', '_')}_v1.json").validate(body)
    read = READER.validate_python(body)
    assert (read.event_type, read.tenant_id, read.emission) == (event_type, body["tenant_id"], body["emission"])
    assert bool(read.reduced) == reduced


def test_an_input_event_and_a_dead_letter_keep_theirs() -> None:
    event = post([analyzed()]).event
    validator("posts_vision_uploaded_v1.json").validate(orjson.loads(event.encode()))
    letter = dead_letter(Origin("x", "vision.media", 0), b"\xff", "rejected")
    validator("dead_letter_v1.json").validate(orjson.loads(letter.encode()))


@pytest.mark.parametrize("missing_field", ["tenant_id", "post_id", "media_files"])
def test_an_event_without_its_identity_is_refused(missing_field: str) -> None:
    body = orjson.loads(post([analyzed()]).event.encode())
    del body[missing_field]
    assert not validator("posts_vision_uploaded_v1.json").is_valid(body)
    with pytest.raises(ValueError, match=missing_field):
        Uploaded.model_validate(body)


@pytest.mark.parametrize(
    ("field", "value"), [("schema_version", "2.0"), ("vision", None), ("analysis_duration_ms", -1)]
)
def test_an_announcement_of_another_form_is_refused(field: str, value: Any) -> None:
    _, body = events.announcement(post([analyzed()]))
    body = orjson.loads(orjson.dumps(body | {field: value}))
    assert not validator("posts_vision_analyzed_v1.json").is_valid(body)
