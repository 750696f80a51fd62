"""The official `gigachat` SDK, unmodified, against the simulator as a real server: it must not notice a difference."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import resources
from typing import Any, Literal

import httpx
import pydantic
import pytest
from gigachat import GigaChat
from gigachat.context import client_id_cvar, request_id_cvar, session_id_cvar
from gigachat.exceptions import (
    AuthenticationError,
    BadRequestError,
    ForbiddenError,
    LengthFinishReasonError,
    NotFoundError,
    RateLimitError,
    RequestEntityTooLargeError,
    ResponseError,
    ServerError,
    UnprocessableEntityError,
)
from gigachat.models.chat_completions import ChatCompletionRequest

from vision_app.simulator import RunningSimulator, SimulatorConfig, running_simulator

PROMPT = "Опиши изображение и верни только JSON."
MODEL = "GigaChat-2-Max"


def media(name: str) -> bytes:
    return resources.files("vision_app").joinpath("demo_media", name).read_bytes()


@pytest.fixture
async def simulator() -> AsyncIterator[RunningSimulator]:
    async with running_simulator() as running:
        yield running


def client_of(simulator: RunningSimulator, client_id: str = "client", **options: Any) -> GigaChat:
    return GigaChat(
        base_url=options.pop("base_url", simulator.base_url),
        auth_url=simulator.auth_url,
        credentials=simulator.credentials(client_id),
        model=options.pop("model", MODEL),
        **options,
    )


@pytest.fixture
async def client(simulator: RunningSimulator) -> AsyncIterator[GigaChat]:
    async with client_of(simulator) as sdk:
        yield sdk


async def uploaded(client: GigaChat, name: str = "photo_cat.jpg") -> str:
    mime = "image/png" if name.endswith("png") else "image/jpeg"
    return (await client.aupload_file((name, media(name), mime))).id_


def asking(*attachments: str, **options: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": PROMPT, "attachments": list(attachments)}], **options}


def asking_v2(*attachments: str, **options: Any) -> ChatCompletionRequest:
    parts: list[dict[str, Any]] = [{"text": PROMPT}]
    if attachments:
        parts.append({"files": [{"id": file_id} for file_id in attachments]})
    return ChatCompletionRequest.model_validate({"messages": [{"role": "user", "content": parts}], **options})


async def test_token_lives_half_an_hour_and_is_fetched_once(simulator: RunningSimulator, client: GigaChat) -> None:
    await asyncio.gather(*(client.aget_models() for _ in range(8)))

    token = await client.aget_token()
    assert token is not None
    assert token.access_token == client.token
    assert token.expires_at > 1_600_000_000_000  # milliseconds
    assert simulator.bill()["oauth_calls"] == 1


async def test_picture_from_upload_to_deletion_v1(simulator: RunningSimulator, client: GigaChat) -> None:
    file = await client.aupload_file(("meme_cat.jpg", media("meme_cat.jpg"), "image/jpeg"))
    assert (file.object_, file.filename, file.purpose, file.bytes_) == ("file", "meme_cat.jpg", "general", 94333)
    assert [listed.id_ for listed in (await client.aget_files()).data] == [file.id_]
    assert (await client.aget_file(file.id_)).id_ == file.id_
    assert base64.b64decode((await client.aget_image(file.id_)).content) == media("meme_cat.jpg")

    completion = await client.achat(asking(file.id_))

    answer = json.loads(completion.choices[0].message.content)
    assert answer["classification"] == "meme"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.model.startswith(f"{MODEL}:")
    usage = completion.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert simulator.bill()["tokens"]["total_tokens"] == usage.total_tokens

    assert (await client.adelete_file(file.id_)).deleted is True
    assert (await client.aget_files()).data == []
    with pytest.raises(NotFoundError):
        await client.aget_file(file.id_)
    with pytest.raises(NotFoundError):
        await client.achat(asking(file.id_))


@pytest.mark.parametrize("base", ["/v1", "/v2", "/api/v1", "/api/v2"])
async def test_picture_v2(simulator: RunningSimulator, base: str) -> None:
    async with client_of(simulator, base_url=simulator.origin + base) as client:
        file_id = await uploaded(client, "infographic_bars.png")

        completion = await client.achat.create(asking_v2(file_id))

    text = (completion.messages[0].content or [])[0].text
    assert json.loads(text or "")["classification"] == "infographic"
    assert completion.finish_reason == "stop"
    usage = completion.usage
    assert usage is not None
    assert usage.total_tokens == (usage.input_tokens or 0) + (usage.output_tokens or 0)
    assert simulator.bill()["tokens"]["total_tokens"] == usage.total_tokens


async def test_stream_v1(simulator: RunningSimulator, client: GigaChat) -> None:
    file_id = await uploaded(client, "document_act.png")

    chunks = [chunk async for chunk in client.astream(asking(file_id))]

    assert len(chunks) > 3
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert json.loads(text)["classification"] == "document"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == simulator.bill()["tokens"]["total_tokens"]


async def test_stream_v2(simulator: RunningSimulator, client: GigaChat) -> None:
    file_id = await uploaded(client, "screenshot_chat.png")

    chunks = [chunk async for chunk in client.achat.stream(asking_v2(file_id))]

    deltas = [chunk for chunk in chunks if chunk.event == "response.message.delta"]
    text = "".join((chunk.messages or [])[0].content[0].text or "" for chunk in deltas)  # type: ignore[index]  # a chunk has content
    assert json.loads(text)["classification"] == "screenshot"
    assert chunks[-1].event == "response.message.done"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == simulator.bill()["tokens"]["total_tokens"]


async def test_synchronous_client(simulator: RunningSimulator) -> None:
    def run() -> tuple[str, bool]:
        with client_of(simulator) as client:
            file = client.upload_file(("cat.jpg", io.BytesIO(media("photo_cat.jpg")), "image/jpeg"))
            content = client.chat(asking(file.id_)).choices[0].message.content
            return content, client.delete_file(file.id_).deleted

    content, deleted = await asyncio.to_thread(run)

    assert json.loads(content)["classification"] == "photo"
    assert deleted


async def test_bare_bytes_upload(client: GigaChat) -> None:
    file = await client.aupload_file(media("photo_cat.jpg"))

    assert file.filename == "upload"
    assert json.loads((await client.achat(asking(file.id_))).choices[0].message.content)["classification"] == "photo"


async def test_plain_text_answer(client: GigaChat) -> None:
    completion = await client.achat("Привет!")

    assert "Привет" in completion.choices[0].message.content
    assert completion.usage.total_tokens < 100


async def test_models_and_tokens(client: GigaChat) -> None:
    models = await client.aget_models()
    assert MODEL in [model.id_ for model in models.data]
    assert (await client.aget_model(MODEL)).owned_by == "salutedevices"
    with pytest.raises(NotFoundError) as refused:
        await client.aget_model("GigaChat-99")
    assert json.loads(refused.value.content or b"") == {"status": 404, "message": "No such model"}

    counts = await client.atokens_count(["Сколько тут токенов?", ""], MODEL)
    assert [(count.object_, count.characters) for count in counts] == [("tokens", 20), ("tokens", 0)]
    assert counts[0].tokens > counts[1].tokens == 0


async def test_balance_is_for_prepaid_scopes(simulator: RunningSimulator, client: GigaChat) -> None:
    assert (await client.aget_balance()).balance[0].value > 0

    async with client_of(simulator, scope="GIGACHAT_API_CORP") as corporate:
        with pytest.raises(ForbiddenError):
            await corporate.aget_balance()


async def test_unknown_model(client: GigaChat) -> None:
    with pytest.raises(NotFoundError):
        await client.achat(asking(model="GigaChat-99"))


async def test_model_without_vision_says_so_and_is_paid(simulator: RunningSimulator, client: GigaChat) -> None:
    completion = await client.achat(asking(await uploaded(client), model="GigaChat-2"))

    assert "не вижу изображение" in completion.choices[0].message.content
    assert simulator.bill()["tokens"]["total_tokens"] == completion.usage.total_tokens


async def test_structured_output_parses(client: GigaChat) -> None:
    class Seen(pydantic.BaseModel):
        classification: str
        is_meme: bool

    _, seen = await client.achat_parse(asking(await uploaded(client)), response_format=Seen)

    assert seen == Seen(classification="photo", is_meme=False)


async def test_max_tokens_cut_the_answer(client: GigaChat) -> None:
    completion = await client.achat(asking(await uploaded(client), max_tokens=20))

    assert completion.choices[0].finish_reason == "length"
    assert completion.usage.completion_tokens == 20

    class Seen(pydantic.BaseModel):
        classification: str

    with pytest.raises(LengthFinishReasonError):
        await client.achat_parse(asking(await uploaded(client), max_tokens=20), response_format=Seen)


async def test_ids_are_echoed_and_a_session_precaches(simulator: RunningSimulator, client: GigaChat) -> None:
    request_id, session_id = request_id_cvar.set("request-1"), session_id_cvar.set("session-1")
    try:
        first = await client.achat(asking())
        second = await client.achat(asking())
    finally:
        request_id_cvar.reset(request_id)
        session_id_cvar.reset(session_id)
    elsewhere = await client.achat(asking())

    assert first.x_headers == {"x-request-id": "request-1", "x-session-id": "session-1", "x-client-id": None}
    assert first.usage.precached_prompt_tokens == 0
    assert 0 < (second.usage.precached_prompt_tokens or 0) <= second.usage.prompt_tokens
    assert second.usage.total_tokens == second.usage.prompt_tokens + second.usage.completion_tokens
    assert elsewhere.usage.precached_prompt_tokens == 0
    entry = simulator.bill()["entries"][0]
    assert (entry["client_request_id"], entry["session_id"]) == ("request-1", "session-1")


async def test_files_belong_to_client_and_label(simulator: RunningSimulator, client: GigaChat) -> None:
    file_id = await uploaded(client)

    async with client_of(simulator, "other") as other:
        with pytest.raises(NotFoundError):
            await other.achat(asking(file_id))
        assert (await other.aget_files()).data == []
    label = client_id_cvar.set("label-1")
    try:
        with pytest.raises(NotFoundError):
            await client.adelete_file(file_id)
    finally:
        client_id_cvar.reset(label)
    assert (await client.adelete_file(file_id)).deleted


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, BadRequestError),
        (401, AuthenticationError),
        (402, ResponseError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (413, RequestEntityTooLargeError),
        (422, UnprocessableEntityError),
        (429, RateLimitError),
        (500, ServerError),
        (502, ServerError),
        (503, ServerError),
    ],
)
@pytest.mark.parametrize("endpoint", ["chat", "upload", "delete", "oauth"])
async def test_status_faults(
    simulator: RunningSimulator, endpoint: str, status: int, error: type[ResponseError]
) -> None:
    async with client_of(simulator) as client:
        file_id = await uploaded(client) if endpoint != "oauth" else ""
        simulator.add_faults({"endpoint": endpoint, "fault": {"kind": "status", "status": status}})
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "chat": lambda: client.achat(asking()),
            "upload": lambda: uploaded(client),
            "delete": lambda: client.adelete_file(file_id),
            "oauth": client.aget_models,
        }

        with pytest.raises(error) as refused:
            await calls[endpoint]()

    assert type(refused.value) is error
    assert refused.value.status_code == status
    assert simulator.bill()["tokens"]["total_tokens"] == 0


async def test_retry_after_only_when_asked_for(simulator: RunningSimulator, client: GigaChat) -> None:
    simulator.add_faults(
        {"endpoint": "chat", "times": 1, "fault": {"kind": "status", "status": 429}},
        {"endpoint": "chat", "times": 1, "fault": {"kind": "status", "status": 429, "retry_after": 7}},
    )

    seen = []
    for _ in range(2):
        with pytest.raises(RateLimitError) as refused:
            await client.achat(asking())
        seen.append(refused.value.retry_after)

    assert seen == [0.0, 7.0]


async def test_sdk_retries_through_a_short_outage(simulator: RunningSimulator) -> None:
    simulator.add_faults({"endpoint": "chat", "times": 2, "fault": {"kind": "status", "status": 503, "html": True}})
    async with client_of(simulator, max_retries=2, retry_backoff_factor=0.0) as client:
        completion = await client.achat(asking())

    assert completion.choices[0].finish_reason == "stop"
    assert [entry["billed"] for entry in simulator.bill()["entries"]] == [False, False, True]


async def test_revoked_token_is_refreshed(simulator: RunningSimulator, client: GigaChat) -> None:
    await client.achat(asking())
    simulator.add_faults({"endpoint": "chat", "times": 1, "fault": {"kind": "revoke"}})

    completion = await client.achat(asking())

    assert completion.choices[0].finish_reason == "stop"
    assert simulator.bill()["oauth_calls"] == 2
    assert simulator.bill()["calls"] == 2


async def test_short_lived_token_is_fetched_for_every_call(simulator: RunningSimulator, client: GigaChat) -> None:
    simulator.add_faults({"endpoint": "oauth", "fault": {"kind": "token_ttl", "seconds": 30}})

    await client.aget_models()
    await client.aget_models()

    assert simulator.bill()["oauth_calls"] == 2  # 30 s are within the SDK's buffer of a minute


async def test_token_that_expires_unannounced(simulator: RunningSimulator, client: GigaChat) -> None:
    fault = {"kind": "token_ttl", "seconds": 0, "skew_seconds": 3600}
    simulator.add_faults({"endpoint": "oauth", "times": 1, "fault": fault})

    with pytest.raises(AuthenticationError, match="Token has expired"):
        await client.aget_models()
    await client.aget_models()

    assert simulator.bill()["oauth_calls"] == 2


async def test_wrong_scope(simulator: RunningSimulator) -> None:
    async with client_of(simulator, scope="GIGACHAT_API_NOBODY") as client:
        with pytest.raises(BadRequestError) as refused:
            await client.aget_models()

    assert json.loads(refused.value.content or b"") == {"code": 1, "message": "scope data format invalid"}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_more_requests_in_flight_than_streams(simulator: RunningSimulator, client: GigaChat) -> None:
    simulator.state.config.streams = 2
    simulator.add_faults({"endpoint": "chat", "times": 2, "fault": {"kind": "hang"}})
    calls = [asyncio.create_task(client.achat(asking())) for _ in range(2)]
    await until(lambda: simulator.bill()["in_flight"] == 2)

    with pytest.raises(RateLimitError):
        await client.achat(asking())
    for call in calls:
        call.cancel()
    await until(lambda: simulator.bill()["in_flight"] == 0)

    assert (await client.achat(asking())).choices[0].finish_reason == "stop"
    assert simulator.bill()["max_concurrent"] == 2


@pytest.mark.parametrize("fault", [{"kind": "drop"}, {"kind": "drop", "after_work": True}, {"kind": "reset"}])
async def test_lost_connections(simulator: RunningSimulator, client: GigaChat, fault: dict[str, Any]) -> None:
    simulator.add_faults({"endpoint": "chat", "fault": fault})

    with pytest.raises(httpx.TransportError):
        await client.achat(asking())

    paid = fault != {"kind": "drop"}
    assert simulator.bill()["calls"] == int(paid)
    assert bool(simulator.bill()["tokens"]["total_tokens"]) is paid


async def test_hanging_answer_times_out(simulator: RunningSimulator) -> None:
    simulator.add_faults({"endpoint": "chat", "fault": {"kind": "hang"}})
    async with client_of(simulator, timeout=0.3) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.achat(asking())

    await until(lambda: simulator.bill()["in_flight"] == 0)
    assert simulator.bill()["calls"] == 0


async def test_stream_that_breaks_in_the_middle(simulator: RunningSimulator, client: GigaChat) -> None:
    simulator.add_faults({"endpoint": "chat", "fault": {"kind": "reset"}})
    stream = client.astream(asking(await uploaded(client)))
    chunks = []

    with pytest.raises((httpx.TransportError, pydantic.ValidationError)):  # noqa: PT012 - breaks on some chunk
        async for chunk in stream:
            chunks.append(chunk)

    assert chunks
    assert simulator.bill()["calls"] == 1


async def test_error_body_under_200_breaks_the_sdk_as_users_report(
    simulator: RunningSimulator, client: GigaChat
) -> None:
    simulator.add_faults({"endpoint": "chat", "fault": {"kind": "status", "status": 429, "in_200": True}})

    with pytest.raises(pydantic.ValidationError):
        await client.achat(asking())

    assert simulator.bill()["calls"] == 0


async def test_refusal_and_errors_arrive_at_200_and_are_paid(simulator: RunningSimulator, client: GigaChat) -> None:
    simulator.add_faults(
        {"endpoint": "chat", "times": 1, "fault": {"kind": "refusal"}},
        {"endpoint": "chat", "times": 1, "fault": {"kind": "finish_reason", "reason": "length"}},
        {"endpoint": "chat", "times": 1, "fault": {"kind": "finish_reason", "reason": "error"}},
    )
    file_id = await uploaded(client)

    reasons = [(await client.achat(asking(file_id))).choices[0].finish_reason for _ in range(3)]

    assert reasons == ["blacklist", "length", "error"]
    assert simulator.bill()["calls"] == 3
    assert [entry["outcome"] for entry in simulator.bill()["entries"]] == [
        "fault: refusal blacklist",
        "fault: finish_reason length",
        "fault: finish_reason error",
    ]


async def test_malformed_answer_passes_through_the_sdk(simulator: RunningSimulator, client: GigaChat) -> None:
    simulator.add_faults({"endpoint": "chat", "fault": {"kind": "malformed", "name": "truncated"}})

    completion = await client.achat(asking(await uploaded(client)))

    with pytest.raises(json.JSONDecodeError):
        json.loads(completion.choices[0].message.content)


async def test_upload_of_a_type_that_is_not_accepted(client: GigaChat) -> None:
    with pytest.raises(BadRequestError):
        await client.aupload_file(("a.jpg", b"GIF89a" + b"\0" * 100, "image/jpeg"))
    with pytest.raises(RequestEntityTooLargeError):
        await client.aupload_file(
            ("a.png", b"\x89PNG\r\n\x1a\n" + zlib.compress(b"") + b"\0" * 15_000_000, "image/png")
        )


class Weather(pydantic.BaseModel):
    """A schema with references, an enumeration, bounds, a list and an optional part."""

    class Wind(pydantic.BaseModel):
        direction: Literal["north", "south"]
        speed: float = pydantic.Field(gt=0, le=90)

    city: str = pydantic.Field(min_length=3, max_length=20)
    degrees: int = pydantic.Field(ge=-60, le=60)
    winds: list[Wind] = pydantic.Field(min_length=2)
    rain: bool
    note: str | None


async def test_text_with_a_schema_is_answered_in_json(client: GigaChat) -> None:
    request = {"messages": [{"role": "user", "content": "Какая погода?"}]}
    completion, weather = await client.achat_parse(request, response_format=Weather)
    assert completion.choices[0].finish_reason == "stop"
    assert json.loads(completion.choices[0].message.content) == weather.model_dump()
    plain = await client.achat({**request, "response_format": {"type": "text"}})
    assert plain.choices[0].message.content.startswith("Это ответ симулятора")
    with pytest.raises(UnprocessableEntityError):
        await client.achat({**request, "response_format": {"type": "yaml"}})


@pytest.mark.parametrize("key", ["nothing", "YWJj", "aWQ6", "OnNlY3JldA=="])
async def test_a_key_that_is_not_base64_of_two_parts_is_refused_although_no_account_is_set(
    simulator: RunningSimulator, key: str
) -> None:
    """`nothing`; `abc`; `id:`; `:secret`."""
    async with GigaChat(base_url=simulator.base_url, auth_url=simulator.auth_url, credentials=key, model=MODEL) as sdk:
        with pytest.raises(BadRequestError, match=r"t decode .*Authorization"):
            await sdk.aget_models()


async def test_two_accounts_at_once() -> None:
    accounts = (("first", "secret"), ("second", "other:secret"))
    async with running_simulator(SimulatorConfig(accounts=accounts)) as running:
        for pair, accepted in ((accounts[0], True), (accounts[1], True), (("first", "other:secret"), False)):
            key = base64.b64encode(":".join(pair).encode()).decode()
            async with GigaChat(
                base_url=running.base_url, auth_url=running.auth_url, credentials=key, model=MODEL
            ) as sdk:
                if accepted:
                    assert (await sdk.aget_models()).data
                else:
                    with pytest.raises(AuthenticationError, match="match db data"):
                        await sdk.aget_models()
