"""VISION_WORKERS: the one API passes requests on as they are, and answers as they come. Needs no service."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.several import Supervised, small_supervisor, until

TOKENS = "secret-of-all=*"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    """One supervisor for the tests that leave its processes as they are."""
    with small_supervisor(tmp_path_factory.mktemp("supervised")) as one:
        one.start(VISION_API_TIMEOUT_SECONDS="2", VISION_API_MAX_CONNECTIONS="16")
        one.ready()
        yield one


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    with small_supervisor(tmp_path) as one:
        one.start()
        one.ready()
        yield one


def headers_of(answer: httpx.Response) -> dict[str, list[str]]:
    """The headers that the process has got, names in lower case."""
    found: dict[str, list[str]] = {}
    for name, value in answer.json()["headers"]:
        found.setdefault(name.lower(), []).append(value)
    return found


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_a_request_arrives_as_it_was_sent(shared: Supervised, method: str) -> None:
    sent = {
        "Host": "10.1.2.3:8000",
        "Authorization": "Bearer x",
        "Cookie": "vision_session=s; a=b",
        "X-Trace-ID": "t-1",
        "X-Request-Id": "r-1",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "If-None-Match": 'W/"x"',
        "Last-Event-ID": "1-1",
    }
    body = {} if method == "GET" else {"content": '{"a": "ä"}'.encode()}
    path = "/api/v1/posts/a%2Fb%20c?tenant_id=t%3A1&x=%D0%B0"
    answer = shared.http.request(method, f"{shared.url}{path}", headers=sent, **body)  # type: ignore[arg-type]  # bytes
    assert answer.status_code == 207
    told = answer.json()
    assert (told["method"], told["path"], told["body"]) == (method, path, '{"a": "ä"}' if body else "")
    got = headers_of(answer)
    assert {name: got.get(name.lower()) for name in sent} == {name: [value] for name, value in sent.items()}
    assert got["x-vision-client"] == ["127.0.0.1"]
    assert got.get("content-length") == ([str(len(body["content"]))] if body else None)
    assert got.get("transfer-encoding") is None
    assert answer.headers.get_list("Set-Cookie") == ["a=1", "b=2"]


def test_nobody_else_can_tell_an_address(shared: Supervised) -> None:
    """The key of the processes is not what a caller says, and the caller's own header does not arrive."""
    first, second = (
        headers_of(
            shared.http.get(f"{shared.url}/x", headers={"X-Vision-Client": "9.9.9.9", "X-Vision-Supervisor": key})
        )
        for key in ("", "guess")
    )
    assert first["x-vision-client"] == second["x-vision-client"] == ["127.0.0.1"]
    assert first["x-vision-supervisor"] == second["x-vision-supervisor"] != ["guess"]


def test_an_answer_without_a_body_keeps_its_length(shared: Supervised) -> None:
    answer = shared.http.head(f"{shared.url}/x")
    assert (answer.status_code, answer.content) == (207, b"")
    assert int(answer.headers["Content-Length"]) > 100
    assert shared.http.get(f"{shared.url}/x").status_code == 207


def test_a_stream_comes_piece_by_piece_and_ends_with_its_reader(shared: Supervised) -> None:
    with shared.http.stream("GET", f"{shared.url}/stream") as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        pieces = answer.iter_text()
        seen = next(pieces)
        assert seen.startswith("news: 1")
        shared.tell("w-1", "chunk", "more")
        until(lambda: "news" in next(pieces), "the second piece")
    until((shared.home / "w-1.left").exists, "the end of the stream at the process")


def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(shared: Supervised) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        shared.http.get(f"{shared.url}/cut")


def test_a_body_that_is_too_large_or_too_slow(shared: Supervised) -> None:
    large = shared.http.post(f"{shared.url}/x", content=b"x" * 70_000)
    assert (large.status_code, large.json()["error"]["code"]) == (413, "request_entity_too_large")
    assert "VISION_API_MAX_BODY_BYTES" in large.json()["detail"]
    with socket.create_connection(("127.0.0.1", int(shared.url.rpartition(":")[2])), timeout=10) as slow:
        slow.sendall(b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf")
        assert b" 408 " in slow.recv(1000)


def test_a_foreign_name_is_refused_here(shared: Supervised) -> None:
    answer = shared.http.get(f"{shared.url}/readyz", headers={"Host": "evil.example"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (421, "foreign_host")


def test_connections_have_a_limit(shared: Supervised) -> None:
    held = [socket.create_connection(("127.0.0.1", int(shared.url.rpartition(":")[2]))) for _ in range(40)]
    try:
        assert httpx.get(f"{shared.url}/x", trust_env=False).status_code == 207  # a connection of its own
    finally:
        for one in held:
            one.close()


def test_all_go_to_one_process_and_to_another_while_it_is_away(supervised: Supervised) -> None:
    asked = [supervised.http.get(f"{supervised.url}/x").json() for _ in range(5)]
    assert {one["name"] for one in asked} == {"w-1"}
    supervised.tell("w-1", "exits", "7")  # it does not come back soon
    os.kill(asked[0]["pid"], signal.SIGKILL)
    statuses: list[int] = []

    def answered(answer: httpx.Response) -> bool:
        statuses.append(answer.status_code)
        return bool(answer.json().get("name") == "w-2")

    supervised.said(answered, "/x")
    assert set(statuses) == {207}


def test_a_get_whose_process_dies_is_asked_of_the_other_one(supervised: Supervised) -> None:
    """It kills each process that works on it."""
    answer = supervised.http.get(f"{supervised.url}/die")
    assert answer.status_code == 503
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert answer.json()["error"]["code"] == "no_process"
    assert "w-1" in answer.json()["detail"]
    assert "w-2" in answer.json()["detail"]
    assert answer.json()["trace_id"] == answer.headers["X-Trace-ID"]


def test_a_change_whose_process_dies_is_not_repeated(supervised: Supervised) -> None:
    pids = supervised.pids()
    answer = supervised.http.post(f"{supervised.url}/die")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "process_gone")
    assert "see whether it was done" in answer.json()["detail"]
    assert supervised.pids()["w-2"] == pids["w-2"]


def test_a_request_does_not_wait_for_a_frozen_process(supervised: Supervised) -> None:
    pids = supervised.pids()
    os.kill(pids["w-1"], signal.SIGSTOP)
    try:
        answer = supervised.http.get(f"{supervised.url}/x", timeout=60)
        assert (answer.status_code, answer.json()["name"]) == (207, "w-2")
    finally:
        os.kill(pids["w-1"], signal.SIGCONT)


def test_without_any_process_the_answer_says_why(supervised: Supervised) -> None:
    for name, pid in supervised.pids().items():
        supervised.tell(name, "exits", "7")
        os.kill(pid, signal.SIGKILL)
    answer = supervised.said(lambda answer: answer.status_code == 503, "/x")
    assert answer.json()["error"]["code"] == "no_process"
    assert "GET /readyz" in answer.json()["detail"]
    assert answer.headers["Retry-After"]


def test_streams_end_when_the_supervisor_stops(supervised: Supervised) -> None:
    ended = threading.Event()

    def read() -> None:
        with supervised.http.stream("GET", f"{supervised.url}/stream") as answer:
            try:
                for _ in answer.iter_bytes():
                    pass
            except httpx.HTTPError:
                pass
        ended.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    time.sleep(0.2)
    assert supervised.process is not None
    supervised.process.terminate()
    assert supervised.ended() == 0
    assert ended.wait(10)
