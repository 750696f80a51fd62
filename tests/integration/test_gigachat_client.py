"""The GigaChat client against a real server, the simulator: what it repeats, what it never does, what it leaves."""

from __future__ import annotations

import asyncio
import io
import re
import socket
import ssl
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from PIL import Image

from vision_app.domain.answer import read_answer
from vision_app.prompts import prompt
from vision_app.providers.base import (
    AccountBlocked,
    BeforeChat,
    CallLost,
    CallTrace,
    InputFault,
    Picture,
    ProviderError,
    ProviderOutage,
    RateLimited,
    RawAnswer,
)
from vision_app.providers.decoding import DecodeRequest, decode
from vision_app.providers.gigachat import GigaChat
from vision_app.providers.pictures import estimate_tokens
from vision_app.settings import Settings, SettingsError, load_settings
from vision_app.simulator import RunningSimulator, SimulatorConfig, create_app, running_simulator
from vision_app.simulator.state import SIMULATOR
from vision_app.telemetry.metrics import PROVIDER_FILES_LEFT, USAGE_UNKNOWN

PROMPT = prompt("photo")


def jpeg() -> Picture:
    out = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").save(out, "JPEG")
    return Picture(out.getvalue(), "image/jpeg", 256, 256)


PICTURE = jpeg()


@pytest.fixture
async def simulator() -> AsyncIterator[RunningSimulator]:
    async with running_simulator(SimulatorConfig(streams=100)) as running:
        yield running


def settings_for(simulator: RunningSimulator, **changes: Any) -> Settings:
    given = {
        "gigachat_base_url": simulator.base_url,
        "gigachat_auth_url": simulator.auth_url,
        "gigachat_credentials": simulator.credentials(),
        "gigachat_vision_timeout": 20,
        "vision_provider_streams": 60,
    }
    return load_settings(**{**given, **changes})


@asynccontextmanager
async def opened(settings: Settings, **options: Any) -> AsyncIterator[GigaChat]:
    client = GigaChat(settings, **options)
    await client.open()
    try:
        yield client
    finally:
        await client.close()


async def nothing() -> None:
    """A call that needs no record."""


async def ask(
    client: GigaChat,
    number: int = 0,
    *,
    picture: Picture = PICTURE,
    prompt: str = PROMPT,
    trace: CallTrace | None = None,
    before_chat: BeforeChat = nothing,
) -> RawAnswer:
    trace = trace or CallTrace(f"trace-{number}", f"grant-{number}")
    async with client.analyze(picture, prompt, trace, before_chat) as raw:
        return raw


async def refused_with(error: type[ProviderError], client: GigaChat) -> Any:
    with pytest.raises(error) as caught:
        await ask(client)
    assert type(caught.value) is error
    return caught.value


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def outcomes(simulator: RunningSimulator) -> list[str]:
    return [entry["outcome"] for entry in simulator.bill()["entries"]]


# --- the plain way ----------------------------------------------------------------------------------------------------


async def test_an_answer_is_read_billed_traced_and_its_file_deleted(simulator: RunningSimulator) -> None:
    settings = settings_for(simulator)
    async with opened(settings) as client:
        raw = await ask(client, trace=CallTrace("трасса\r\n1", "grant-7"))
    assert read_answer(raw.content, raw.finish_reason).verdict == "ok"
    [entry] = simulator.bill()["entries"]
    assert raw.tokens == entry["total_tokens"] > 0
    assert raw.tokens <= estimate_tokens(len(PICTURE.content), PICTURE.mime_type, settings)
    assert raw.usage["prompt_tokens"] == entry["prompt_tokens"]
    assert raw.model.startswith(f"{settings.gigachat_vision_model}:")
    assert raw.request_id == entry["client_request_id"] == "grant-7"
    assert entry["session_id"] == "%D1%82%D1%80%D0%B0%D1%81%D1%81%D0%B0%0D%0A1"
    assert simulator.bill()["files"] == []


async def test_the_hook_runs_before_the_billed_request(simulator: RunningSimulator) -> None:
    seen: list[tuple[int, int]] = []

    async def before_chat() -> None:
        bill = simulator.bill()
        seen.append((bill["attempts"], len(bill["files"])))

    async with opened(settings_for(simulator)) as client:
        await ask(client, before_chat=before_chat)
    assert seen == [(0, 1)], "the hook comes after the upload, which is free"


async def test_the_answer_is_stored_before_anything_else_happens(simulator: RunningSimulator) -> None:
    """The file is deleted once the answer is stored: a deletion that takes long leaves the answer in no danger."""
    async with opened(settings_for(simulator)) as client:
        async with client.analyze(PICTURE, PROMPT, CallTrace("t", "g"), nothing) as raw:
            assert raw.tokens == simulator.bill()["tokens"]["total_tokens"]
            assert len(simulator.bill()["files"]) == 1
        assert simulator.bill()["files"] == []


async def test_an_answer_that_cannot_be_stored_leaves_no_file(simulator: RunningSimulator) -> None:
    async with opened(settings_for(simulator)) as client:
        with pytest.raises(ZeroDivisionError):
            async with client.analyze(PICTURE, PROMPT, CallTrace("t", "g"), nothing):
                raise ZeroDivisionError
        assert simulator.bill()["files"] == []


async def test_an_error_of_the_hook_ends_the_call_before_it_is_billed(simulator: RunningSimulator) -> None:
    async def before_chat() -> None:
        raise LookupError("no record could be written")

    async with opened(settings_for(simulator)) as client:
        with pytest.raises(LookupError):
            await ask(client, before_chat=before_chat)
    assert (simulator.bill()["attempts"], simulator.bill()["files"]) == (0, [])


async def test_the_hook_may_take_longer_than_the_deadline(simulator: RunningSimulator) -> None:
    """It waits for the store: that takes no time from the paid request, and nobody blames the provider for it."""

    async def before_chat() -> None:
        await asyncio.sleep(2)

    simulator.add_faults({"endpoint": "chat", "fault": {"kind": "latency", "seconds": 0.5, "max_seconds": 0.5}})
    async with opened(settings_for(simulator, gigachat_vision_timeout=2)) as client:
        raw = await ask(client, before_chat=before_chat)
    assert raw.tokens == simulator.bill()["tokens"]["total_tokens"] > 0


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("document_act.png", "document"),
        ("infographic_bars.png", "infographic"),
        ("meme_cat.jpg", "meme"),
        ("photo_cat.jpg", "photo"),
        ("screenshot_chat.png", "screenshot"),
    ],
)
async def test_from_the_bytes_to_the_analysis(simulator: RunningSimulator, name: str, kind: str) -> None:
    content = (resources.files("vision_app") / "demo_media" / name).read_bytes()
    settings = settings_for(simulator)
    async with opened(settings) as client:
        picture = decode(content, "application/octet-stream", DecodeRequest(settings.vision_preprocess_max_dim, 75))
        raw = await ask(client, picture=picture, prompt=prompt("default"))
    reading = read_answer(raw.content, raw.finish_reason)
    assert reading.analysis is not None
    assert (reading.verdict, reading.faults, reading.analysis.classification) == ("ok", [], kind)
    assert reading.analysis.is_meme == (kind == "meme")
    assert 0 < raw.tokens <= estimate_tokens(len(content), "image/png", settings)


# --- tokens -----------------------------------------------------------------------------------------------------------


async def test_fifty_first_calls_share_one_token(simulator: RunningSimulator) -> None:
    async with opened(settings_for(simulator)) as client:
        await asyncio.gather(*(ask(client, number) for number in range(50)))
    assert simulator.bill()["oauth_calls"] == 1
    assert simulator.bill()["calls"] == 50


async def test_a_storm_of_401_costs_one_refresh(simulator: RunningSimulator) -> None:
    async with opened(settings_for(simulator)) as client:
        await ask(client)
        simulator.add_faults({"endpoint": "upload", "fault": {"kind": "latency", "seconds": 0, "max_seconds": 0.5}})
        simulator.state.tokens.revoke()
        await asyncio.gather(*(ask(client, number) for number in range(50)))
    assert simulator.bill()["oauth_calls"] == 2
    assert simulator.bill()["calls"] == 51


async def test_a_token_revoked_between_upload_and_chat_is_replaced(simulator: RunningSimulator) -> None:
    simulator.add_faults({"endpoint": "chat", "times": 1, "fault": {"kind": "revoke"}})
    async with opened(settings_for(simulator)) as client:
        await ask(client)
    assert (simulator.bill()["oauth_calls"], simulator.bill()["calls"]) == (2, 1)


async def test_a_token_refused_again_blocks_the_account(simulator: RunningSimulator) -> None:
    simulator.add_faults({"endpoint": "upload", "fault": {"kind": "revoke"}})
    async with opened(settings_for(simulator)) as client:
        fault = await refused_with(AccountBlocked, client)
    assert (fault.status, simulator.bill()["oauth_calls"]) == (401, 2)


async def test_a_token_living_shorter_than_the_buffer_is_not_renewed_per_call(simulator: RunningSimulator) -> None:
    simulator.add_faults({"endpoint": "oauth", "fault": {"kind": "token_ttl", "seconds": 30}})
    async with opened(settings_for(simulator)) as client:
        for number in range(10):
            await ask(client, number)
    assert simulator.bill()["oauth_calls"] == 1


async def test_a_token_is_renewed_ahead_of_its_expiry_without_waiting(simulator: RunningSimulator) -> None:
    simulator.add_faults({"endpoint": "oauth", "times": 1, "fault": {"kind": "token_ttl", "seconds": 4}})
    async with opened(settings_for(simulator)) as client:
        while simulator.bill()["oauth_calls"] < 2:
            await ask(client)
        await ask(client)
        entries = outcomes(simulator)
    assert simulator.bill()["oauth_calls"] == 2
    assert set(entries) == {"ok"}  # nobody ever met a 401


async def test_a_wrong_server_clock_does_not_make_a_refresh_per_call(simulator: RunningSimulator) -> None:
    simulator.add_faults({"endpoint": "oauth", "fault": {"kind": "token_ttl", "seconds": 60, "skew_seconds": -7200}})
    async with opened(settings_for(simulator)) as client:
        for number in range(5):
            await ask(client, number)
    assert simulator.bill()["oauth_calls"] == 1


async def test_an_oauth_outage_is_shared_by_all_who_wait(simulator: RunningSimulator) -> None:
    simulator.add_faults(
        {"endpoint": "oauth", "fault": {"kind": "latency", "seconds": 0.2}},
        {"endpoint": "oauth", "fault": {"kind": "status", "status": 503}},
    )
    started = time.monotonic()
    async with opened(settings_for(simulator)) as client:
        faults = await asyncio.gather(*(ask(client, n) for n in range(50)), return_exceptions=True)
        assert {type(fault) for fault in faults} == {ProviderOutage}
        assert time.monotonic() - started < 5  # one after another, they would take ten
        assert simulator.state.faults.listing()[1]["fired"] == 1


async def test_an_oauth_outage_is_reported_to_calls_right_after_it(simulator: RunningSimulator) -> None:
    simulator.add_faults({"endpoint": "oauth", "fault": {"kind": "status", "status": 503}})
    async with opened(settings_for(simulator)) as client:
        for _ in range(10):
            await refused_with(ProviderOutage, client)
        assert simulator.state.faults.listing()[0]["fired"] == 1
        simulator.clear_faults()
        async with asyncio.timeout(10):
            while simulator.bill()["calls"] == 0:
                await asyncio.gather(ask(client), asyncio.sleep(0.05), return_exceptions=True)


async def test_refused_credentials_block_the_account(simulator: RunningSimulator) -> None:
    async with opened(settings_for(simulator, gigachat_credentials="not base64")) as client:
        assert "GIGACHAT_CREDENTIALS" in str(await refused_with(AccountBlocked, client))
    async with opened(settings_for(simulator, gigachat_credentials="")) as client:
        assert "GIGACHAT_CREDENTIALS" in str(await refused_with(AccountBlocked, client))


# --- 429 and refusals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["seconds", "http-date"])
async def test_a_short_retry_after_is_honoured(simulator: RunningSimulator, style: str) -> None:
    fault = {"kind": "status", "status": 429, "retry_after": 2, "retry_after_format": style}
    simulator.add_faults({"endpoint": "chat", "times": 1, "fault": fault})
    started = time.monotonic()
    async with opened(settings_for(simulator)) as client:
        await ask(client)
    assert 1 <= time.monotonic() - started < 6
    assert simulator.bill()["calls"] == 1


async def test_a_long_retry_after_is_left_to_the_gate(simulator: RunningSimulator) -> None:
    fault = {"kind": "status", "status": 429, "retry_after": 3600}
    simulator.add_faults({"endpoint": "chat", "fault": fault})
    started = time.monotonic()
    async with opened(settings_for(simulator)) as client:
        refusal = await refused_with(RateLimited, client)
    assert refusal.retry_after_seconds == 300
    assert time.monotonic() - started < 3
    assert simulator.bill()["attempts"] == 1


@pytest.mark.parametrize("in_200", [False, True])
async def test_a_429_is_tried_again_a_few_times_then_reported(simulator: RunningSimulator, in_200: bool) -> None:
    simulator.add_faults({"endpoint": "chat", "fault": {"kind": "status", "status": 429, "in_200": in_200}})
    async with opened(settings_for(simulator, vision_api_max_retries=1)) as client:
        assert (await refused_with(RateLimited, client)).retry_after_seconds is None
    assert (simulator.bill()["attempts"], simulator.bill()["calls"], simulator.bill()["files"]) == (2, 0, [])


@pytest.mark.parametrize(
    ("status", "message", "error"),
    [
        (402, None, AccountBlocked),
        (403, None, AccountBlocked),
        (404, "No such model", AccountBlocked),
        (404, "Not found", AccountBlocked),
        (404, "No such file", InputFault),
        (400, None, InputFault),
        (413, None, InputFault),
        (422, None, InputFault),
    ],
)
async def test_a_refusal_is_not_repeated(
    simulator: RunningSimulator, status: int, message: str | None, error: type[ProviderError]
) -> None:
    simulator.add_faults({"endpoint": "chat", "fault": {"kind": "status", "status": status, "message": message}})
    async with opened(settings_for(simulator)) as client:
        assert (await refused_with(error, client)).status == status
    assert (simulator.bill()["attempts"], simulator.bill()["calls"], simulator.bill()["files"]) == (1, 0, [])


async def test_an_unknown_model_is_named_in_the_error(simulator: RunningSimulator) -> None:
    async with opened(settings_for(simulator, gigachat_vision_model="GigaChat-99")) as client:
        assert "GIGACHAT_VISION_MODEL" in str(await refused_with(AccountBlocked, client))


# --- outages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("html", [False, True])
async def test_a_503_is_tried_again(simulator: RunningSimulator, html: bool) -> None:
    fault = {"kind": "status", "status": 503, "html": html}
    simulator.add_faults({"endpoint": "chat", "times": 2, "fault": fault})
    async with opened(settings_for(simulator)) as client:
        await ask(client)
    assert (simulator.bill()["attempts"], simulator.bill()["calls"]) == (3, 1)


async def test_lasting_503_is_an_outage(simulator: RunningSimulator) -> None:
    simulator.add_faults({"endpoint": "chat", "fault": {"kind": "status", "status": 503}})
    async with opened(settings_for(simulator, vision_api_max_retries=1)) as client:
        await refused_with(ProviderOutage, client)
    assert (simulator.bill()["attempts"], simulator.bill()["files"]) == (2, [])


@pytest.mark.parametrize("after_work", [False, True])
@pytest.mark.parametrize("status", [500, 502, 504])
async def test_a_5xx_that_may_come_after_the_work_is_lost_not_repeated(
    simulator: RunningSimulator, status: int, after_work: bool
) -> None:
    fault = {"kind": "status", "status": status, "after_work": after_work}
    simulator.add_faults({"endpoint": "chat", "fault": fault})
    async with opened(settings_for(simulator)) as client:
        await refused_with(CallLost, client)
    bill = simulator.bill()
    assert (bill["attempts"], bill["calls"], bill["files"]) == (1, after_work, [])


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_a_provider_that_is_down_as_a_whole_is_an_outage_and_free(
    simulator: RunningSimulator, status: int
) -> None:
    simulator.add_faults({"fault": {"kind": "status", "status": status}})
    async with opened(settings_for(simulator, vision_api_max_retries=0)) as client:
        await refused_with(ProviderOutage, client)
    assert simulator.bill()["attempts"] == 0


async def test_a_port_without_a_listener_is_an_outage() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    urls = {"gigachat_base_url": f"{url}/v1", "gigachat_auth_url": f"{url}/oauth", "gigachat_credentials": "x"}
    async with opened(load_settings(**urls, vision_api_max_retries=1)) as client:
        await refused_with(ProviderOutage, client)


async def test_a_web_page_instead_of_the_api_is_an_outage(simulator: RunningSimulator) -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>log in to the network</html>", content_type="text/html")

    async with serving({("POST", "/v1/files"): page}) as origin:
        settings = settings_for(simulator, gigachat_base_url=f"{origin}/v1", vision_api_max_retries=0)
        async with opened(settings) as client:
            assert "GIGACHAT_BASE_URL" in str(await refused_with(ProviderOutage, client))


# --- calls cut off ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after_work", [False, True])
@pytest.mark.parametrize("kind", ["hang", "drop"])
async def test_a_call_cut_off_is_lost_within_the_deadline(
    simulator: RunningSimulator, kind: str, after_work: bool
) -> None:
    simulator.add_faults({"endpoint": "chat", "fault": {"kind": kind, "after_work": after_work}})
    started = time.monotonic()
    async with opened(settings_for(simulator, gigachat_vision_timeout=2)) as client:
        await refused_with(CallLost, client)
    assert time.monotonic() - started < 4
    assert simulator.bill()["calls"] == after_work
    assert simulator.bill()["files"] == []


async def test_half_an_answer_is_lost(simulator: RunningSimulator) -> None:
    simulator.add_faults({"endpoint": "chat", "fault": {"kind": "reset"}})
    async with opened(settings_for(simulator)) as client:
        await refused_with(CallLost, client)
    assert (simulator.bill()["calls"], simulator.bill()["files"]) == (1, [])


async def test_a_dripping_answer_cannot_outlast_the_deadline(simulator: RunningSimulator) -> None:
    simulator.add_faults({"endpoint": "chat", "fault": {"kind": "drip", "chunk_bytes": 1, "interval": 0.2}})
    started = time.monotonic()
    async with opened(settings_for(simulator, gigachat_vision_timeout=2)) as client:
        await refused_with(CallLost, client)
    assert time.monotonic() - started < 4


async def test_a_cancelled_call_deletes_its_file(simulator: RunningSimulator) -> None:
    simulator.add_faults({"endpoint": "chat", "fault": {"kind": "hang"}})
    async with opened(settings_for(simulator)) as client:
        call = asyncio.create_task(ask(client))
        await until(lambda: simulator.bill()["in_flight"])
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert simulator.bill()["files"] == []


async def test_a_call_cancelled_again_while_deleting_still_deletes(simulator: RunningSimulator) -> None:
    simulator.add_faults(
        {"endpoint": "chat", "fault": {"kind": "hang"}},
        {"endpoint": "delete", "fault": {"kind": "latency", "seconds": 0.3}},
    )
    async with opened(settings_for(simulator)) as client:
        call = asyncio.create_task(ask(client))
        await until(lambda: simulator.bill()["in_flight"])
        call.cancel()
        await until(lambda: simulator.state.faults.listing()[1]["fired"])
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert len(simulator.bill()["files"]) == 1  # the caller need not wait for it
    assert simulator.bill()["files"] == []  # closing does


# --- unusable answers are billed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["truncated", "empty", "prose", "ocr_string"])
async def test_an_unusable_answer_keeps_its_usage(simulator: RunningSimulator, name: str) -> None:
    simulator.add_faults({"endpoint": "chat", "fault": {"kind": "malformed", "name": name}})
    async with opened(settings_for(simulator)) as client:
        raw = await ask(client)
    assert raw.tokens == simulator.bill()["tokens"]["total_tokens"] > 0


async def test_a_refusal_by_the_model_is_an_answer(simulator: RunningSimulator) -> None:
    simulator.add_faults({"endpoint": "chat", "fault": {"kind": "refusal", "name": "blacklist"}})
    async with opened(settings_for(simulator)) as client:
        raw = await ask(client)
    assert raw.finish_reason == "blacklist"
    assert raw.tokens == simulator.bill()["tokens"]["total_tokens"] > 0


async def test_an_answer_without_usage_is_charged_at_the_estimate() -> None:
    without = re.compile(r',"usage":{[^}]*}')
    async with garbling("/v1/chat/completions", lambda text: without.sub("", text)) as (simulator, _):
        settings = settings_for(simulator)
        async with opened(settings) as client:
            raw = await ask(client)
        assert read_answer(raw.content, raw.finish_reason).verdict == "ok"
        assert raw.tokens == estimate_tokens(len(PICTURE.content), PICTURE.mime_type, settings)
        assert raw.tokens >= simulator.bill()["tokens"]["total_tokens"] > 0


async def test_an_answer_that_says_it_cost_nothing_is_charged_at_the_estimate() -> None:
    zeros = re.compile(r'_tokens":\s*\d+')
    before = USAGE_UNKNOWN.labels("zero")._value.get()
    async with garbling("/v1/chat/completions", lambda text: zeros.sub('_tokens":0', text)) as (simulator, _):
        settings = settings_for(simulator)
        async with opened(settings) as client:
            raw = await ask(client)
        assert set(raw.usage.values()) == {0}
        assert raw.tokens == estimate_tokens(len(PICTURE.content), PICTURE.mime_type, settings)
        assert raw.tokens >= simulator.bill()["tokens"]["total_tokens"] > 0
    assert USAGE_UNKNOWN.labels("zero")._value.get() == before + 1


async def test_before_each_request_a_hook_and_before_each_pause_the_other(simulator: RunningSimulator) -> None:
    """Who keeps a record of the call can say at any moment whether a request is under way."""
    seen: list[tuple[str, int]] = []

    async def before_chat() -> None:
        seen.append(("before", simulator.bill()["attempts"]))

    async def refused() -> None:
        seen.append(("refused", simulator.bill()["attempts"]))

    fault = {"kind": "status", "status": 503}
    simulator.add_faults({"endpoint": "chat", "times": 2, "fault": fault})
    async with (
        opened(settings_for(simulator)) as client,
        client.analyze(PICTURE, PROMPT, CallTrace("t", "g"), before_chat, refused) as raw,
    ):
        assert raw.tokens > 0
    assert [what for what, _ in seen] == ["before", "refused", "before", "refused", "before"]


@pytest.mark.parametrize(
    "garbled", ["", "{", "[]", "null", '{"choices": []}', '{"choices": [{"message": {"content": null}}]}']
)
async def test_a_body_that_is_no_answer_is_charged_and_unusable(garbled: str) -> None:
    async with garbling("/v1/chat/completions", lambda _: garbled) as (simulator, _):
        async with opened(settings_for(simulator)) as client:
            raw = await ask(client)
        assert read_answer(raw.content, raw.finish_reason).verdict == "unusable"
        assert raw.tokens >= simulator.bill()["tokens"]["total_tokens"] > 0


# --- uploads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("garbled", ['{"object": "file", "id"', "{}", '{"id": "../oauth"}', "[]"])
async def test_a_malformed_upload_answer_does_not_upload_twice(garbled: str) -> None:
    async with garbling("/v1/files", lambda _: garbled) as (simulator, asked):
        async with opened(settings_for(simulator)) as client:
            await ask(client)
        assert (asked["POST files"], asked["GET files"], asked["POST delete"]) == (1, 1, 1)
        assert simulator.bill()["files"] == []


@pytest.mark.parametrize("after_work", [False, True])
async def test_an_upload_dropped_is_looked_for_not_repeated(simulator: RunningSimulator, after_work: bool) -> None:
    simulator.add_faults({"endpoint": "upload", "fault": {"kind": "drop", "after_work": after_work}})
    async with opened(settings_for(simulator)) as client:
        if after_work:
            await ask(client)
        else:
            await refused_with(ProviderOutage, client)
    assert simulator.state.faults.listing()[0]["fired"] == 1
    assert (simulator.bill()["calls"], simulator.bill()["files"]) == (int(after_work), [])


@pytest.mark.parametrize("after_work", [False, True])
async def test_an_upload_answered_with_5xx_is_looked_for_too(simulator: RunningSimulator, after_work: bool) -> None:
    fault = {"kind": "status", "status": 502, "after_work": after_work}
    simulator.add_faults({"endpoint": "upload", "fault": fault})
    async with opened(settings_for(simulator)) as client:
        if after_work:
            await ask(client)
        else:
            await refused_with(ProviderOutage, client)
    assert simulator.state.faults.listing()[0]["fired"] == 1
    assert simulator.bill()["files"] == []


async def test_an_upload_that_hangs_after_storing_leaves_no_file(simulator: RunningSimulator) -> None:
    simulator.add_faults({"endpoint": "upload", "fault": {"kind": "hang", "after_work": True}})
    async with opened(settings_for(simulator, gigachat_vision_timeout=2)) as client:
        await refused_with(ProviderOutage, client)
    assert (simulator.bill()["attempts"], simulator.bill()["files"]) == (0, [])


async def test_a_file_the_provider_refuses_is_the_pictures_fault(simulator: RunningSimulator) -> None:
    async with opened(settings_for(simulator)) as client:
        with pytest.raises(InputFault):
            await ask(client, picture=Picture(b"MZ\x90\x00", "image/jpeg", 1, 1))


async def test_a_deletion_that_fails_is_counted_and_does_not_fail_the_call(simulator: RunningSimulator) -> None:
    simulator.add_faults({"endpoint": "delete", "fault": {"kind": "hang"}})
    left = _count()
    started = time.monotonic()
    async with opened(settings_for(simulator, gigachat_vision_timeout=4)) as client:
        await ask(client)
    assert time.monotonic() - started < 4
    assert _count() == left + 1
    assert len(simulator.bill()["files"]) == 1


def _count() -> float:
    return next(sample.value for family in PROVIDER_FILES_LEFT.collect() for sample in family.samples)


# --- TLS --------------------------------------------------------------------------------------------------------------


async def test_a_private_authority_is_trusted_only_when_configured(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    async with serving({}, create_app(), tls) as origin:
        urls = {"gigachat_base_url": f"{origin}/v1", "gigachat_auth_url": f"{origin}/api/v2/oauth"}
        given = {**urls, "gigachat_credentials": RunningSimulator.credentials(), "vision_api_max_retries": 0}
        async with opened(load_settings(**given)) as client:
            assert "GIGACHAT_CA_BUNDLE_FILE" in str(await refused_with(ProviderOutage, client))
        async with opened(load_settings(**given, gigachat_ca_bundle_file=certificate)) as client:
            assert (await ask(client)).tokens > 0


async def test_an_unreadable_authority_file_is_reported_at_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="GIGACHAT_CA_BUNDLE_FILE"):
        await GigaChat(load_settings(gigachat_ca_bundle_file=tmp_path / "none.pem")).open()


def self_signed(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "ca.pem", folder / "key.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *files, *subject]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


# --- servers of our own -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(
    handlers: dict[tuple[str, str], Any], app: web.Application | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    app = app or web.Application()
    for (method, path), handler in handlers.items():
        app.router.add_route(method, path, handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def garbling(path: str, garbled: Callable[[str], str]) -> AsyncIterator[tuple[RunningSimulator, Counter[str]]]:
    """A simulator whose answers to `path` are garbled after the work was done; and how often each path was asked."""
    asked: Counter[str] = Counter()

    @web.middleware
    async def garble(request: web.Request, handler: Any) -> web.StreamResponse:
        response: web.StreamResponse = await handler(request)
        asked[f"{request.method} {request.path.rpartition('/')[2]}"] += 1
        if (request.method, request.path) != ("POST", path):
            return response
        assert isinstance(response, web.Response)
        return web.Response(text=garbled(response.text or ""), content_type="application/json")

    app = create_app()
    app.middlewares.append(garble)
    async with serving({}, app) as origin:
        yield RunningSimulator(origin, app[SIMULATOR]), asked
