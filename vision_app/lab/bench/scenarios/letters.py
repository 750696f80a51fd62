"""Dead letters replayed by `vision dlq replay`: entries of the input stream, as after an outage that is over."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence

import orjson

from vision_app import topics
from vision_app.events import UPLOADED_EVENT, entry_value
from vision_app.lab.bench.laboratory import MS_A_POST, PER_SECOND, SECONDS, Laboratory
from vision_app.lab.bench.measure import OURS, Event, cpu_seconds, patience
from vision_app.messages import DeadLetter
from vision_app.operations.kafka_log import kafka_sender
from vision_app.operations.neighbours import await_announcements, newest_announcement
from vision_app.stack.errors import StackError
from vision_app.stack.process import spawn
from vision_app.streams.dead_letters import Origin, dead_letter

NAME = "letters"
DIFFERENT_PICTURES = 200
COMMAND = (sys.executable, "-c", "from vision_app.cli import main; main()", "dlq", "replay")


async def run(laboratory: Laboratory, sizes: Sequence[int]) -> None:
    [worker] = await laboratory.workers(1)
    letters, measure, settings = sizes[0], laboratory.measure(min(sizes[0], DIFFERENT_PICTURES)), laboratory.settings
    first = await measure.new(OURS, worker)
    laboratory.expect(f"{NAME}, the pictures", first.ended, first.posts)
    events, error = measure.known_events("letter", letters), f"bench-{measure.run}"
    await _write(laboratory, events, error)
    laboratory.tell(f"replaying {letters} dead letters")
    since = await newest_announcement(laboratory.redis, settings)
    busy, started = cpu_seconds(worker), time.monotonic()
    await _replay(laboratory, error)
    sent = time.monotonic() - started
    posts = {str(event["post_id"]) for event in events}
    announced = await await_announcements(laboratory.redis, settings, posts, since, patience(letters))
    seconds = time.monotonic() - started
    await laboratory.idle(NAME)
    cpu_ms = (cpu_seconds(worker) - busy) * 1000
    laboratory.expect(NAME, len(announced), letters)
    laboratory.note(NAME, "the command", SECONDS, sent)
    laboratory.note(NAME, "until all posts are announced", SECONDS, seconds)
    laboratory.note(NAME, "letters, rate", PER_SECOND, letters / seconds)
    laboratory.note(NAME, "letters, the worker's CPU", MS_A_POST, cpu_ms / letters)


async def _write(laboratory: Laboratory, events: Sequence[Event], error: str) -> None:
    """Write the letters that the way in would have written."""
    stream = laboratory.settings.input_streams[0]
    async with kafka_sender(laboratory.settings) as sender:
        for number, event in enumerate(events):
            letter = _letter(stream, number, event, error)
            [(topic, key)] = topics.routes(letter)
            await sender.send(topic.name, key, letter.encode(), {})


def _letter(stream: str, number: int, event: Event, error: str) -> DeadLetter:
    entry = entry_value({b"event": UPLOADED_EVENT.encode(), b"data": orjson.dumps(event)})
    now_ms = int(time.time() * 1000)
    origin = Origin(id=f"{stream}-{error}-{number}", name=stream, offset=f"{now_ms}-{number}", first_seen_ms=now_ms)
    return dead_letter(origin, entry, "made by the benchmark", error=error)


async def _replay(laboratory: Laboratory, error: str) -> None:
    """Run the command. Raises StackError with what it says if it fails."""
    log = laboratory.home / "logs" / f"{error}.log"
    environment = {**os.environ, **laboratory.variables}
    process = await spawn([*COMMAND, "--error", error], environment, log, signal.SIGTERM)
    if code := await process.wait():
        raise StackError(f"`vision dlq replay --error {error}` ended with exit code {code}; see {log}")
