"""The provider for users' tests fulfils the contract of `VisionProvider`, and its answers can be read."""

from __future__ import annotations

import asyncio

import pytest

from vision_app.domain.answer import read_answer
from vision_app.providers.base import (
    AccountBlocked,
    CallLost,
    CallTrace,
    InputFault,
    Picture,
    ProviderError,
    ProviderOutage,
    RateLimited,
    RawAnswer,
    nothing,
)
from vision_app.testing import Call, MockProvider, answer_text

TRACE = CallTrace("trace-1", "grant-1")
RED = Picture(b"red", "image/png", 1, 1)
BLUE = Picture(b"blue", "image/png", 1, 1)
RED_SHA256 = "b1f51a511f1da0cd348b8f8598db32e61cb963e5fc69e2b41485bf99590ed75a"


async def ask(provider: MockProvider, picture: Picture | None = RED) -> RawAnswer:
    async with provider.analyze(picture, "What is it?", TRACE, nothing) as answer:
        return answer


async def test_answers_come_in_turn_and_the_last_one_is_repeated() -> None:
    provider = MockProvider("one", "two")
    assert [(await ask(provider)).content for _ in range(3)] == ["one", "two", "two"]


async def test_a_picture_may_have_an_answer_of_its_own() -> None:
    whole = RawAnswer("red", "length", "another model", 7, request_id="r")
    provider = MockProvider("other", by_sha256={RED_SHA256: whole}, tokens=5)
    assert await ask(provider) == whole
    blue = await ask(provider, BLUE)
    assert (blue.content, blue.model, blue.tokens, blue.request_id) == ("other", "mock", 5, "grant-1")
    assert (await ask(provider, None)).content == "other"


async def test_it_records_what_it_was_asked() -> None:
    provider = MockProvider("x")
    await ask(provider)
    await ask(provider, None)
    assert provider.calls == [Call(RED, "What is it?", TRACE), Call(None, "What is it?", TRACE)]
    assert [call.sha256 for call in provider.calls] == [RED_SHA256, None]


@pytest.mark.parametrize(
    "error",
    [
        ProviderOutage("503"),
        RateLimited("429", 2.0),
        AccountBlocked("402", 402),
        InputFault("422", 422),
        CallLost("cut off"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_it_raises_every_documented_error_and_records_the_call(error: ProviderError) -> None:
    provider = MockProvider(error, "then an answer")
    with pytest.raises(type(error)) as raised:
        await ask(provider)
    assert raised.value is error
    assert len(provider.calls) == 1
    assert (await ask(provider)).content == "then an answer"


async def test_what_before_chat_raises_ends_the_call_before_it_is_made() -> None:
    provider = MockProvider("x")

    async def no_permission() -> None:
        raise LookupError("not ours any more")

    with pytest.raises(LookupError):
        async with provider.analyze(RED, "p", TRACE, no_permission):
            pass
    assert provider.calls == []


async def test_a_call_can_be_held_and_cut_off() -> None:
    provider, under_way = MockProvider("x"), asyncio.Event()

    async def hold(call: Call) -> None:
        under_way.set()
        await asyncio.Event().wait()

    provider.during = hold
    asking = asyncio.create_task(ask(provider))
    await under_way.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert len(provider.calls) == 1


def test_without_any_answer_it_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one answer"):
        MockProvider(by_sha256={RED_SHA256: "red"})


def test_an_answer_text_is_read_as_it_was_meant() -> None:
    reading = read_answer(answer_text("meme", "Кот с подписью", is_meme=True, labels=["кот"]))
    assert (reading.verdict, reading.faults) == ("ok", [])
    assert reading.analysis is not None
    assert (reading.analysis.classification, reading.analysis.labels) == ("meme", ["кот"])
