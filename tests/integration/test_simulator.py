"""The simulator over plain HTTP: what the SDK cannot see or send. Faults, the bill, limits, rules of requests."""

from __future__ import annotations

import asyncio
import email.utils
import json
import os
import shutil
import signal
import ssl
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest

from vision_app.simulator import RunningSimulator, SimulatorConfig, running_simulator
from vision_app.simulator.errors import ApiError
from vision_app.simulator.malformed import MalformedName
from vision_app.simulator.oauth import Tokens

PROMPT = "Опиши изображение и верни только JSON. " * 30
MODEL = "GigaChat-2-Max"
SCOPE = {"scope": "GIGACHAT_API_PERS"}
PURPOSE = {"purpose": "general"}


def media(name: str) -> bytes:
    return resources.files("vision_app").joinpath("demo_media", name).read_bytes()


@pytest.fixture
async def simulator() -> AsyncIterator[RunningSimulator]:
    async with running_simulator() as running:
        yield running


@pytest.fixture
async def http(simulator: RunningSimulator) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=simulator.origin, trust_env=False) as client:
        client.headers["Authorization"] = f"Bearer {await token(client)}"
        yield client


async def token(http: httpx.AsyncClient, pair: str = "client:secret", **headers: str) -> str:
    response = await oauth(http, pair, **headers)
    assert response.status_code == 200, response.text
    return str(response.json()["access_token"])


async def oauth(http: httpx.AsyncClient, pair: str = "client:secret", **headers: str) -> httpx.Response:
    sent = {"RqUID": str(uuid.uuid4()), **headers}
    client, secret = pair.split(":", 1)
    return await http.post("/api/v2/oauth", data=SCOPE, headers=sent, auth=(client, secret))


async def upload(http: httpx.AsyncClient, data: bytes, **headers: str) -> httpx.Response:
    return await http.post("/v1/files", files={"file": ("f", data)}, data=PURPOSE, headers=headers)


async def file_id(http: httpx.AsyncClient, name: str = "photo_cat.jpg") -> str:
    return str((await upload(http, media(name))).json()["id"])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def hanging_calls(simulator: RunningSimulator, http: httpx.AsyncClient, count: int) -> AsyncIterator[None]:
    """Occupy `count` streams of the client for the length of the block."""
    await add(http, {"endpoint": "chat", "times": count, "fault": {"kind": "hang"}})
    calls = [asyncio.create_task(chat(http, user())) for _ in range(count)]
    await until(lambda: simulator.bill()["in_flight"] == count)
    yield
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    await until(lambda: simulator.bill()["in_flight"] == 0)


def user(*attachments: str, text: str = PROMPT) -> dict[str, Any]:
    return {"role": "user", "content": text, "attachments": list(attachments)}


async def chat(http: httpx.AsyncClient, *messages: Any, **options: Any) -> httpx.Response:
    return await http.post("/v1/chat/completions", json={"model": MODEL, "messages": list(messages), **options})


# --- OAuth


async def test_oauth_answer(http: httpx.AsyncClient) -> None:
    response = await oauth(http)

    body = response.json()
    assert set(body) == {"access_token", "expires_at"}
    assert body["expires_at"] / 1000 == pytest.approx(time.time() + 1800, abs=5)
    assert "no-store" in response.headers["Cache-Control"]


@pytest.mark.parametrize("rquid", ["", "abc", "00000000-0000-1000-8000-000000000000"])
async def test_rquid_must_be_a_uuid4(http: httpx.AsyncClient, rquid: str) -> None:
    response = await oauth(http, RqUID=rquid)

    assert response.status_code == 400
    assert set(response.json()) == {"code", "message"}


@pytest.mark.parametrize(
    ("form", "code", "message"),
    [({}, 5, "scope is empty"), ({"scope": "EVERYTHING"}, 1, "scope data format invalid")],
)
async def test_scope_is_checked(http: httpx.AsyncClient, form: dict[str, str], code: int, message: str) -> None:
    headers = {"RqUID": str(uuid.uuid4())}
    response = await http.post("/api/v2/oauth", data=form, headers=headers, auth=("client", "secret"))

    assert (response.status_code, response.json()) == (400, {"code": code, "message": message})


@pytest.mark.parametrize("header", ["Basic !!!", "Basic bm9jb2xvbg==", "Digest abc", ""])
async def test_undecodable_credentials(http: httpx.AsyncClient, header: str) -> None:
    headers = {"RqUID": str(uuid.uuid4()), "Authorization": header}
    response = await http.post("/api/v2/oauth", data=SCOPE, headers=headers)

    assert (response.status_code, response.json()["code"]) == (400, 4)


async def test_configured_pair_is_the_only_one_accepted() -> None:
    config = SimulatorConfig(client_id="me", client_secret="right")
    async with running_simulator(config) as running, httpx.AsyncClient(base_url=running.origin) as http:
        assert (await oauth(http, "me:right")).status_code == 200
        refused = await oauth(http, "me:wrong")

    assert (refused.status_code, refused.json()) == (401, {"code": 6, "message": "credentials doesn't match db data"})


async def test_too_many_token_requests(simulator: RunningSimulator, http: httpx.AsyncClient) -> None:
    await http.put("/admin/limits", json={"oauth_per_second": 1})

    codes = {answer.status_code for answer in await asyncio.gather(*(oauth(http, "eager:x") for _ in range(8)))}

    assert codes == {200, 429}
    assert simulator.bill("eager")["oauth_calls"] == 8


def test_ten_token_requests_a_second_are_admitted() -> None:
    tokens = Tokens(SimulatorConfig())
    for _ in range(10):
        tokens.admit("client")

    with pytest.raises(ApiError) as refused:
        tokens.admit("client")

    assert refused.value.status == 429
    tokens.admit("another")


# --- the gateway


@pytest.mark.parametrize("prefix", ["/v1", "/v2", "/api/v1", "/api/v2"])
async def test_every_prefix_serves_files_and_models(http: httpx.AsyncClient, prefix: str) -> None:
    for path in ("/models", f"/models/{MODEL}", "/files", "/balance"):
        assert (await http.get(prefix + path)).status_code == 200


async def test_no_user_agent_no_service(http: httpx.AsyncClient) -> None:
    request = http.build_request("GET", "/v1/models")
    del request.headers["User-Agent"]

    response = await http.send(request)

    assert (response.status_code, response.json()["message"]) == (403, "Unauthorized")


async def test_without_or_with_an_unknown_token(http: httpx.AsyncClient) -> None:
    unknown = await http.get("/v1/models", headers={"Authorization": "Bearer nobody"})
    absent = await http.get("/v1/models", headers={"Authorization": ""})

    assert unknown.json() == {"status": 401, "message": "Token has expired"}
    assert absent.json() == {"status": 401, "message": "Unauthorized"}


async def test_ids_are_echoed_or_generated(http: httpx.AsyncClient) -> None:
    given = await http.get("/v1/models", headers={"X-Request-ID": "r", "X-Session-ID": "s"})
    generated = await http.get("/v1/models/unknown")

    assert (given.headers["X-Request-ID"], given.headers["X-Session-ID"]) == ("r", "s")
    assert uuid.UUID(generated.headers["X-Request-ID"]).version == 4
    assert uuid.UUID(generated.headers["X-Session-ID"]).version == 4


async def test_unknown_path_and_method(http: httpx.AsyncClient) -> None:
    assert (await http.get("/v1/nothing")).json()["status"] == 404
    assert (await http.delete("/v1/models")).json()["status"] == 405


# --- files


async def test_multipart_parts_in_any_order(http: httpx.AsyncClient) -> None:
    picture: tuple[str, Any] = ("file", ("кот.jpg", media("photo_cat.jpg"), "application/octet-stream"))
    purpose: tuple[str, Any] = ("purpose", (None, "general"))

    for parts in ([picture, purpose], [purpose, picture]):
        response = await http.post("/v1/files", files=parts)
        assert response.status_code == 200
        assert response.json()["modalities"] == ["image"]
        assert response.json()["filename"] == "кот.jpg"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"%PDF-1.4 text", 200),
        ("Обычный текст".encode(), 200),
        (b"GIF89a" + b"\0" * 50, 400),
        (b"RIFF\x10\0\0\0WEBPVP8 ", 400),
        (b"\x00\x01\x02\x03", 400),
        (b"", 400),
        (b"\xff\xd8\xff" + b"\0" * 15_000_000, 413),
        (b"a" * 15_000_001, 200),
        (b"a" * 40_000_001, 413),
    ],
    ids=["pdf", "text", "gif", "webp", "binary", "empty", "image over 15 MB", "text over 15 MB", "text over 40 MB"],
)
async def test_type_and_size_by_content(http: httpx.AsyncClient, data: bytes, status: int) -> None:
    assert (await upload(http, data)).status_code == status


async def test_broken_uploads(http: httpx.AsyncClient) -> None:
    broken = {"Content-Type": "multipart/form-data; boundary=x"}

    assert (await http.post("/v1/files", json={})).status_code == 400
    assert (await http.post("/v1/files", content=b"garbage", headers=broken)).status_code == 400
    assert (await http.post("/v1/files", files={"purpose": (None, "general")})).status_code == 400
    wrong = await http.post("/v1/files", files={"file": b"text"}, data={"purpose": "assistant"})
    assert wrong.status_code == 422


async def test_client_label_divides_files(http: httpx.AsyncClient) -> None:
    labelled = (await upload(http, b"text", **{"X-Client-ID": "tenant"})).json()["id"]

    assert (await http.get(f"/v1/files/{labelled}")).status_code == 404
    assert (await http.get(f"/v1/files/{labelled}", headers={"X-Client-ID": "tenant"})).status_code == 200


# --- chat


async def test_answer_has_every_key_of_the_prompt_contract(http: httpx.AsyncClient) -> None:
    response = await chat(http, user(await file_id(http, "meme_cat.jpg")))

    body = response.json()
    assert set(body) == {"choices", "created", "model", "object", "usage"}
    answer = json.loads(body["choices"][0]["message"]["content"])
    assert set(answer) == {
        *("classification", "description", "is_meme", "labels", "objects", "ocr", "scene"),
        *("dominant_colors", "nsfw_score", "aesthetic_score", "context"),
    }
    assert answer["is_meme"] is True
    assert len(answer["description"]) <= 160


async def test_price_of_a_call_is_in_the_vendors_range(http: httpx.AsyncClient) -> None:
    usage = (await chat(http, user(await file_id(http, "document_act.png")))).json()["usage"]

    assert 1320 <= usage["total_tokens"] <= 2600
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


async def test_attached_documents(http: httpx.AsyncClient) -> None:
    text = (await upload(http, "Договор аренды".encode())).json()["id"]
    pdf = (await upload(http, b"%PDF-1.4 " + b"x" * 5000)).json()["id"]

    read = json.loads((await chat(http, user(text))).json()["choices"][0]["message"]["content"])
    seen = json.loads((await chat(http, user(pdf))).json()["choices"][0]["message"]["content"])

    assert (read["classification"], read["ocr"]["text"]) == ("document", "Договор аренды")
    assert (seen["classification"], seen["ocr"]) == ("document", None)


async def test_text_beyond_the_context(http: httpx.AsyncClient) -> None:
    book = (await upload(http, b"word " * 200_000)).json()["id"]

    response = await chat(http, user(book))

    assert (response.status_code, response.json()["message"]) == (422, "Unprocessable Entity")


async def test_picture_that_cannot_be_opened(simulator: RunningSimulator, http: httpx.AsyncClient) -> None:
    broken = (await upload(http, media("photo_cat.jpg")[:9000])).json()["id"]

    response = await chat(http, user(broken))

    assert response.status_code == 422
    assert "cannot be opened" in response.json()["message"]
    assert simulator.bill()["calls"] == 0


SYSTEM = {"role": "system", "content": "Ты эксперт"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"messages": [user()]}, 422),
        ({"model": "Nobody", "messages": [user()]}, 404),
        ({"model": MODEL}, 422),
        ({"model": MODEL, "messages": []}, 422),
        ({"model": MODEL, "messages": ["hello"]}, 422),
        ({"model": MODEL, "messages": [SYSTEM, user()]}, 200),
        ({"model": MODEL, "messages": [user(), SYSTEM]}, 422),
        ({"model": MODEL, "messages": [SYSTEM, SYSTEM, user()]}, 422),
        ({"model": MODEL, "messages": [{"role": "robot", "content": "x"}]}, 422),
        ({"model": MODEL, "messages": [{"role": "user", "content": 5}]}, 422),
        ({"model": MODEL, "messages": [user(), ], "max_tokens": 0}, 422),
        ({"model": MODEL, "messages": [user()], "temperature": -1}, 422),
        ({"model": MODEL, "messages": [user("no-such-file")]}, 404),
        ([], 400),
    ],
)  # fmt: skip
async def test_rules_of_a_request(http: httpx.AsyncClient, body: Any, status: int) -> None:
    response = await http.post("/v1/chat/completions", json=body)

    assert response.status_code == status
    if status != 200:
        assert response.json()["status"] == status


async def test_invalid_json(http: httpx.AsyncClient) -> None:
    assert (await http.post("/v1/chat/completions", content=b"{")).status_code == 400


async def test_one_picture_per_message_ten_per_request(http: httpx.AsyncClient) -> None:
    file = await file_id(http)

    assert (await chat(http, user(file, file))).status_code == 422
    assert (await chat(http, *[user(file)] * 11)).status_code == 422
    assert (await chat(http, *[user(file)] * 3)).status_code == 200


async def test_only_the_first_text_document_is_read(http: httpx.AsyncClient) -> None:
    first, second = [(await upload(http, text * 400)).json()["id"] for text in (b"one ", b"two ")]

    both = (await chat(http, user(first, second))).json()["usage"]["prompt_tokens"]
    alone = (await chat(http, user(first))).json()["usage"]["prompt_tokens"]

    assert both == alone


# --- the bill


async def test_bill_reconciles_with_the_answers(simulator: RunningSimulator, http: httpx.AsyncClient) -> None:
    names = ["photo_cat.jpg", "meme_cat.jpg", "document_act.png"]
    files = [await file_id(http, name) for name in names]
    answers = [await chat(http, user(file)) for file in files]
    await chat(http, user("no-such-file"))

    bill = (await http.get("/admin/bill")).json()["client"]

    assert (bill["calls"], bill["attempts"]) == (3, 4)
    billed = {entry["request_id"]: entry for entry in bill["entries"] if entry["billed"]}
    for answer in answers:
        entry, usage = billed[answer.headers["X-Request-ID"]], answer.json()["usage"]
        assert {name: entry[name] for name in usage} == usage
        assert entry["outcome"] == "ok"
    assert bill["tokens"]["total_tokens"] == sum(answer.json()["usage"]["total_tokens"] for answer in answers)
    assert bill["entries"][3]["outcome"] == "refused 404: No such file"
    assert {file["id"] for file in bill["files"]} == set(files)
    assert "entries" not in (await http.get("/admin/bill?entries=0")).json()["client"]
    assert {entry["sha256"][0] for entry in billed.values()} == {file["sha256"] for file in bill["files"]}


async def test_bill_is_kept_per_client_and_reset(http: httpx.AsyncClient) -> None:
    await chat(http, user())
    other = await token(http, "other:x")
    await http.post("/v1/chat/completions", json={"model": MODEL, "messages": [user()]}, headers=bearer(other))

    bill = (await http.get("/admin/bill")).json()
    assert {client: account["calls"] for client, account in bill.items()} == {"client": 1, "other": 1}

    await http.post("/admin/reset")
    assert (await http.get("/admin/bill")).json() == {}
    assert (await chat(http, user())).status_code == 401


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


async def test_bill_survives_a_restart_and_a_torn_line(tmp_path: Path) -> None:
    bills = []
    for _ in range(3):
        config = SimulatorConfig(home=tmp_path)
        async with running_simulator(config) as running, httpx.AsyncClient(base_url=running.origin) as http:
            http.headers.update(bearer(await token(http)))
            await chat(http, user())
            bills.append(running.bill())
        with (tmp_path / "bill.jsonl").open("ab") as file:
            file.write(b'{"type": "call", "cli')

    assert [(bill["calls"], bill["oauth_calls"]) for bill in bills] == [(1, 1), (2, 2), (3, 3)]
    assert bills[2]["entries"][:2] == bills[1]["entries"]


async def test_reset_survives_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        config = SimulatorConfig(home=tmp_path)
        async with running_simulator(config) as running, httpx.AsyncClient(base_url=running.origin) as http:
            http.headers.update(bearer(await token(http)))
            assert running.bill()["calls"] == 0
            await chat(http, user())
            await http.post("/admin/reset")


# --- faults


async def add(http: httpx.AsyncClient, *rules: dict[str, Any]) -> None:
    response = await http.post("/admin/faults", json=list(rules))
    assert response.status_code == 200, response.text


def status(code: int, **more: Any) -> dict[str, Any]:
    return {"kind": "status", "status": code, **more}


async def test_rules_are_listed_counted_and_cleared(http: httpx.AsyncClient) -> None:
    await add(http, {"endpoint": "chat", "after": 1, "times": 1, "fault": status(500)})

    codes = [(await chat(http, user())).status_code for _ in range(3)]

    assert codes == [200, 500, 200]
    [rule] = (await http.get("/admin/faults")).json()
    assert (rule["seen"], rule["fired"], rule["fault"]["status"]) == (3, 1, 500)
    await http.delete("/admin/faults")
    assert (await http.get("/admin/faults")).json() == []


@pytest.mark.parametrize(
    "rule",
    [
        {"fault": {"kind": "earthquake"}},
        {"fault": status(200)},
        {"endpoint": "kitchen", "fault": status(500)},
        {"fault": {"kind": "malformed", "name": "unheard of"}},
        {"fault": status(500), "time": 1},
    ],
)
async def test_wrong_rules_are_refused_with_a_reason(http: httpx.AsyncClient, rule: dict[str, Any]) -> None:
    response = await http.post("/admin/faults", json=[rule])

    assert response.status_code == 422
    assert "docs/simulator.md" in response.json()["message"]
    assert (await http.get("/admin/faults")).json() == []


async def test_rule_for_one_client(http: httpx.AsyncClient) -> None:
    await add(http, {"endpoint": "chat", "client": "unlucky", "fault": status(402)})
    unlucky = bearer(await token(http, "unlucky:x"))

    assert (await chat(http, user())).status_code == 200
    refused = await http.post("/v1/chat/completions", json={"model": MODEL, "messages": [user()]}, headers=unlucky)
    assert refused.json() == {"status": 402, "message": "Payment Required"}


async def test_rule_for_one_session_or_one_file_name(http: httpx.AsyncClient) -> None:
    await add(
        http,
        {"endpoint": "models", "session": "trace-1", "fault": status(500)},
        {"endpoint": "upload", "filename": "cat", "fault": status(500)},
    )

    assert (await http.get("/v1/models", headers={"X-Session-ID": "trace-1"})).status_code == 500
    assert (await http.get("/v1/models", headers={"X-Session-ID": "trace-2"})).status_code == 200
    named = [await http.post("/v1/files", files={"file": (n, b"x")}, data=PURPOSE) for n in ("cat.txt", "dog.txt")]
    assert [response.status_code for response in named] == [500, 200]


@pytest.mark.parametrize("endpoint", ["upload", "chat", "delete"])
async def test_rule_for_one_picture(http: httpx.AsyncClient, endpoint: str) -> None:
    cat, coffee = [(await upload(http, media(name))).json()["id"] for name in ("photo_cat.jpg", "photo_coffee.jpg")]
    sha256 = (await http.get("/admin/bill")).json()["client"]["files"][0]["sha256"]
    await add(http, {"endpoint": endpoint, "sha256": sha256, "fault": status(500)})
    calls: dict[str, Callable[[str, str], Any]] = {
        "upload": lambda _, name: upload(http, media(name)),
        "chat": lambda file, _: chat(http, user(file)),
        "delete": lambda file, _: http.post(f"/v1/files/{file}/delete"),
    }

    codes = [
        (await calls[endpoint](file, name)).status_code
        for file, name in ((cat, "photo_cat.jpg"), (coffee, "photo_coffee.jpg"))
    ]

    assert codes == [500, 200]


async def test_probability_is_neither_never_nor_always(http: httpx.AsyncClient) -> None:
    await add(http, {"endpoint": "models", "probability": 0.5, "fault": status(500)})

    codes = {(await http.get("/v1/models")).status_code for _ in range(64)}

    assert codes == {200, 500}


async def test_latency_adds_to_another_fault(http: httpx.AsyncClient) -> None:
    await add(
        http,
        {"endpoint": "chat", "fault": {"kind": "latency", "seconds": 0.1, "max_seconds": 0.15}},
        {"endpoint": "chat", "fault": {"kind": "latency", "seconds": 0.1}},
        {"endpoint": "chat", "fault": status(503)},
    )
    before = time.monotonic()

    response = await chat(http, user())

    assert response.status_code == 503
    assert time.monotonic() - before >= 0.2


async def test_retry_after_in_both_formats(http: httpx.AsyncClient) -> None:
    await add(
        http,
        {"times": 1, "endpoint": "chat", "fault": status(429, retry_after=3)},
        {"times": 1, "endpoint": "chat", "fault": status(503, retry_after=30, retry_after_format="http-date")},
    )

    seconds = (await chat(http, user())).headers["Retry-After"]
    date = (await chat(http, user())).headers["Retry-After"]

    assert seconds == "3"
    at = email.utils.parsedate_to_datetime(date).timestamp()
    assert at == pytest.approx(time.time() + 30, abs=3)


async def test_gateway_that_lost_a_paid_answer(simulator: RunningSimulator, http: httpx.AsyncClient) -> None:
    await add(http, {"endpoint": "chat", "fault": status(504, after_work=True)})

    response = await chat(http, user())

    assert (response.status_code, response.json()) == (504, {"status": 504, "message": "Gateway Timeout"})
    [entry] = simulator.bill()["entries"]
    assert (entry["billed"], entry["outcome"]) == (True, "fault: status 504 after work")


async def test_html_error_page(http: httpx.AsyncClient) -> None:
    await add(http, {"endpoint": "chat", "fault": status(502, html=True)})

    response = await chat(http, user())

    assert (response.status_code, response.headers["Content-Type"]) == (502, "text/html; charset=utf-8")
    assert "<h1>502 Bad Gateway</h1>" in response.text


async def test_oauth_down(http: httpx.AsyncClient) -> None:
    await add(http, {"endpoint": "oauth", "fault": {"kind": "drop"}})

    with pytest.raises(httpx.RemoteProtocolError):
        await oauth(http)

    assert (await chat(http, user())).status_code == 200


async def test_reset_in_the_middle_of_the_body(simulator: RunningSimulator, http: httpx.AsyncClient) -> None:
    await add(http, {"endpoint": "chat", "fault": {"kind": "reset"}})
    request = {"model": MODEL, "messages": [user()]}

    async with http.stream("POST", "/v1/chat/completions", json=request) as response:
        assert response.status_code == 200
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await response.aread()

    [entry] = simulator.bill()["entries"]
    assert (entry["billed"], entry["outcome"]) == (True, "fault: reset")


async def test_dripping_answer(http: httpx.AsyncClient) -> None:
    await add(http, {"endpoint": "chat", "fault": {"kind": "drip", "chunk_bytes": 100, "interval": 0.02}})
    before = time.monotonic()

    response = await chat(http, user())

    assert response.json()["object"] == "chat.completion"
    assert time.monotonic() - before >= 0.02 * (len(response.content) // 100)


async def test_hang_after_work_is_billed_and_ends(simulator: RunningSimulator, http: httpx.AsyncClient) -> None:
    await add(http, {"endpoint": "chat", "fault": {"kind": "hang", "after_work": True}})
    call = asyncio.create_task(chat(http, user()))
    await until(lambda: bool(simulator.bill()["calls"]))
    assert simulator.bill()["in_flight"] == 1

    call.cancel()

    await until(lambda: simulator.bill()["in_flight"] == 0)
    assert simulator.bill()["calls"] == 1


async def test_abandoned_call_is_billed_all_the_same(simulator: RunningSimulator, http: httpx.AsyncClient) -> None:
    await add(http, {"endpoint": "chat", "fault": {"kind": "latency", "seconds": 0.5}})
    call = asyncio.create_task(chat(http, user()))
    await until(lambda: simulator.bill()["in_flight"] == 1)

    call.cancel()

    await until(lambda: bool(simulator.bill()["calls"]))
    assert simulator.bill()["entries"][0]["outcome"] == "client gone"


@pytest.mark.parametrize("name", get_args(MalformedName))
async def test_malformed_answers_are_delivered_and_billed(
    simulator: RunningSimulator, http: httpx.AsyncClient, name: str
) -> None:
    file = await file_id(http)
    real = (await chat(http, user(file))).json()["choices"][0]["message"]["content"]
    await add(http, {"endpoint": "chat", "fault": {"kind": "malformed", "name": name}})

    body = (await chat(http, user(file))).json()

    spoilt = body["choices"][0]["message"]["content"]
    assert isinstance(spoilt, str)
    assert spoilt != real
    entry = simulator.bill()["entries"][-1]
    assert (entry["billed"], entry["outcome"]) == (True, f"fault: malformed {name}")
    assert entry["total_tokens"] == body["usage"]["total_tokens"]


@pytest.mark.parametrize(
    ("name", "phrase", "reason"),
    [
        ("blacklist", "временно ограничены", "blacklist"),
        ("polite", "прочитать текст", "stop"),
        ("cannot_see", "не вижу изображение", "stop"),
    ],
)
async def test_refusals(http: httpx.AsyncClient, name: str, phrase: str, reason: str) -> None:
    await add(http, {"endpoint": "chat", "fault": {"kind": "refusal", "name": name}})

    choice = (await chat(http, user(await file_id(http)))).json()["choices"][0]

    assert phrase in choice["message"]["content"]
    assert choice["finish_reason"] == reason


# --- limits


async def test_limits_change_while_running(simulator: RunningSimulator, http: httpx.AsyncClient) -> None:
    response = await http.put("/admin/limits", json={"streams": 1, "retry_after_seconds": 2})
    assert response.json()["streams"] == 1

    async with hanging_calls(simulator, http, 1):
        refused = await chat(http, user())

    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "2")
    assert refused.json() == {"status": 429, "message": "Too many requests"}
    assert (await chat(http, user())).status_code == 200
    assert (await http.put("/admin/limits", json={"streams": 0})).status_code == 422


async def test_streams_are_counted_per_client(simulator: RunningSimulator, http: httpx.AsyncClient) -> None:
    await http.put("/admin/limits", json={"streams": 2})
    other = bearer(await token(http, "other:x"))
    body = {"model": MODEL, "messages": [user()]}

    async with hanging_calls(simulator, http, 2):
        own = await chat(http, user())
        others = await http.post("/v1/chat/completions", json=body, headers=other)

    assert (own.status_code, others.status_code) == (429, 200)
    assert "Retry-After" not in own.headers
    assert simulator.bill()["max_concurrent"] == 2


async def test_ttl_of_new_tokens(http: httpx.AsyncClient) -> None:
    await http.put("/admin/limits", json={"token_ttl_seconds": 0})

    stale = bearer(await token(http))

    assert (await http.get("/v1/models", headers=stale)).json()["message"] == "Token has expired"


# --- the process


async def test_process_starts_on_a_free_port_and_ends_at_once(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "vision_app.simulator", "--home", str(tmp_path), "--streams", "3"),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "GIGACHAT_CLIENT_ID": "me", "GIGACHAT_CLIENT_SECRET": "right"},
    )
    assert process.stdout is not None
    try:
        started = json.loads(await asyncio.wait_for(process.stdout.readline(), 30))
        async with httpx.AsyncClient(base_url=started["address"]) as http:
            assert (await http.get("/healthz")).status_code == 200
            assert (await oauth(http, "me:wrong")).status_code == 401
            http.headers.update(bearer(await token(http, "me:right")))
            await add(http, {"endpoint": "chat", "fault": {"kind": "hang"}})
            hanging = asyncio.create_task(chat(http, user()))
            async with asyncio.timeout(10):
                while (await http.get("/admin/bill")).json()["me"]["in_flight"] != 1:
                    await asyncio.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 3) == 0
            with pytest.raises(httpx.TransportError):
                await hanging
    finally:
        if process.returncode is None:
            process.kill()
        await process.stdout.read()
        await process.wait()


async def test_only_loopback_addresses() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "vision_app.simulator", "--host", "0.0.0.0"),  # noqa: S104 - what must be refused
        stderr=asyncio.subprocess.PIPE,
    )
    _, error = await process.communicate()

    assert process.returncode == 2
    assert b"not a loopback address" in error


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
async def test_tls_from_a_private_root(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = await asyncio.create_subprocess_exec(
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
        *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)),
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await made.wait() == 0
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(cert, key)
    trusting = ssl.create_default_context(cafile=str(cert))

    async with running_simulator(tls=server) as simulator:
        async with httpx.AsyncClient(verify=trusting) as http:
            assert (await http.get(f"{simulator.origin}/healthz")).status_code == 200
        async with httpx.AsyncClient() as http:
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await http.get(f"{simulator.origin}/healthz")
