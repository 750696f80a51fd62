"""A provider whose answers are given in advance. It keeps the order of hooks that `VisionProvider` promises."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import orjson

from vision_app.providers.base import (
    BeforeChat,
    CallTrace,
    Picture,
    ProviderError,
    RawAnswer,
    Refused,
    VisionProvider,
    nothing,
)

Scripted = str | RawAnswer | ProviderError
"""The result of a call: the text of an answer, a whole answer, or an error to raise."""


@dataclass(frozen=True)
class Call:
    """One request that a provider would have billed. `picture` is None for a question about the prompt alone."""

    picture: Picture | None
    prompt: str
    trace: CallTrace

    @property
    def sha256(self) -> str | None:
        """The digest of the bytes that are sent, in hexadecimal digits. None if no picture is sent.

        The worker encodes pictures again before it sends them, so this is not the digest of the uploaded file.
        """
        return None if self.picture is None else hashlib.sha256(self.picture.content).hexdigest()


class MockProvider(VisionProvider):
    """Answers from a script and records every call.

    * `answers` are given one after the other; the last one is repeated for ever.
    * `by_sha256` has answers for single pictures; its keys are digests as in `Call.sha256`. They take precedence.
    * `calls` are the requests so far, including those that end with an error.
    * `during`, if set, is awaited during a call: to delay it, to check the state, or to cancel it.

    An error of the script (any `ProviderError`) is raised where the real provider raises it: on entering the block,
    after `before_chat`. `refused` is never awaited, since no request is made again.
    """

    name = "mock"

    def __init__(
        self,
        *answers: Scripted,
        by_sha256: Mapping[str, Scripted] | None = None,
        model: str = "mock",
        tokens: int = 1000,
    ) -> None:
        """`model` and `tokens` belong to answers that are given as a text.

        Raises ValueError when there is no answer for a picture that `by_sha256` does not know.
        """
        if not answers:
            raise ValueError("MockProvider needs at least one answer, for pictures that by_sha256 does not name")
        self.answers: list[Scripted] = list(answers)
        self.by_sha256 = dict(by_sha256 or {})
        self.calls: list[Call] = []
        self.during: Callable[[Call], Awaitable[None]] | None = None
        self._model, self._tokens = model, tokens

    async def open(self) -> None:
        """Nothing to prepare."""

    async def close(self) -> None:
        """Nothing to release."""

    @asynccontextmanager
    async def analyze(
        self,
        picture: Picture | None,
        prompt: str,
        trace: CallTrace,
        before_chat: BeforeChat,
        refused: Refused = nothing,
    ) -> AsyncIterator[RawAnswer]:
        """Give the scripted answer. Raises the scripted ProviderError, and what `before_chat` and `during` raise."""
        await before_chat()
        call = Call(picture, prompt, trace)
        self.calls.append(call)
        if self.during is not None:
            await self.during(call)
        ending = self._ending(call)
        if isinstance(ending, ProviderError):
            raise ending
        if isinstance(ending, str):
            ending = RawAnswer(content=ending, finish_reason="stop", model=self._model, tokens=self._tokens)
        yield replace(ending, request_id=ending.request_id or trace.request_id)

    def _ending(self, call: Call) -> Scripted:
        if call.sha256 in self.by_sha256:
            return self.by_sha256[call.sha256]
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def answer_text(classification: str, description: str, **fields: Any) -> str:
    """An answer in the form that the prompts ask for (`vision_app/prompts/contract.txt`), as JSON.

    `fields` are the others of that form: `labels`, `objects`, `scene`, `ocr` and so on.
    """
    return orjson.dumps({"classification": classification, "description": description, **fields}).decode()
