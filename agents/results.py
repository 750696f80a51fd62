"""Outcomes that more than one agent makes."""

from __future__ import annotations

from vision_app.messages import Analyzed, Answer, DeadLetter, Failed, MediaOutcome, MediaTask


def analyzed(answer: Answer, key: str, *, cached: bool) -> Analyzed:
    """A stored answer as an outcome; only a call made for this task is billed to it."""
    return Analyzed(answer=answer, s3_key=key, cached=cached, tokens_billed=0 if cached else answer.tokens)


def buried(task: MediaTask, letter: DeadLetter) -> MediaOutcome:
    """The outcome of a task whose message was dead-lettered, so that its post does not wait for ever."""
    return task.outcome(Failed(reason="exception", details={"error": letter.error}, dead_letter_id=letter.id))
