"""deploy/alertmanager: a real Alertmanager sends our alerts to a Telegram that the test plays."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.integration.pipeline import free_port
from tests.processes import installed, serving
from tests.unit.test_deploy_monitoring import ALERTS, DEPLOY

TOKEN = "12345:token-of-a-test"
MAX_TELEGRAM_CHARACTERS = 4096
FOLDER = DEPLOY / "alertmanager"


class Telegram:
    """Keeps the messages that the bot sends."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    async def send(self, request: web.Request) -> web.Response:
        assert request.path == f"/bot{TOKEN}/sendMessage"
        self.messages.append(await request.json() if request.content_type.endswith("json") else await request.post())  # type: ignore[arg-type]  # both are mappings
        return web.json_response({"ok": True, "result": {"message_id": 1, "date": 0, "chat": {"id": 7}}})

    async def received(self, text: str) -> str:
        async with asyncio.timeout(30):
            while True:
                for message in self.messages:
                    if text in message["text"]:
                        return str(message["text"])
                await asyncio.sleep(0.05)


@pytest.fixture
async def telegram() -> AsyncIterator[tuple[Telegram, str]]:
    played = Telegram()
    app = web.Application()
    app.router.add_post("/{bot}/sendMessage", played.send)
    async with TestServer(app) as server:
        yield played, str(server.make_url("/")).rstrip("/")


def configuration(api: str) -> dict[str, Any]:
    """Our example with what its user fills in, and with short waits. Debian's 0.25 knows no file for the token."""
    example: dict[str, Any] = yaml.safe_load((FOLDER / "alertmanager.yml").read_text())
    (receiver,) = example["receivers"]
    (bot,) = receiver["telegram_configs"]
    del bot["bot_token_file"]
    bot |= {"bot_token": TOKEN, "chat_id": 7, "api_url": api}
    for route in (example["route"], *example["route"]["routes"]):
        route |= {"group_wait": "0s", "group_interval": "1s"}
    example["templates"] = [str(FOLDER / "telegram.tmpl")]
    return example


def alert(name: str, **labels: str) -> dict[str, Any]:
    """The alert as Prometheus sends it, with values in place of its template."""
    rule = ALERTS[name]
    texts = {key: re.sub(r"\{\{.*?\}\}", "<5 & more>", text) for key, text in rule["annotations"].items()}
    labels = {"alertname": name, "severity": rule["labels"]["severity"], **labels}
    return {"labels": labels, "annotations": texts, "startsAt": datetime.now(UTC).isoformat()}


async def test_an_alert_is_a_message_that_says_what_to_do(tmp_path: Path, telegram: tuple[Telegram, str]) -> None:
    played, api = telegram
    port = free_port()
    (tmp_path / "alertmanager.yml").write_text(yaml.safe_dump(configuration(api)))
    command = [
        installed("prometheus-alertmanager"),
        f"--config.file={tmp_path / 'alertmanager.yml'}",
        f"--storage.path={tmp_path}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with serving(command, port, tmp_path / "log"):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            many = [alert("VisionStalled", stage=f"stage-{number}") for number in range(40)]
            for sent in (*many, alert("VisionDeadLetters"), alert("VisionDown"), alert("VisionNotReady")):
                (await client.post("/api/v2/alerts", json=[sent])).raise_for_status()
            urgent, calm = await played.received("VisionStalled"), await played.received("VisionDeadLetters")
            await played.received("VisionDown")
            ended = {**alert("VisionDeadLetters"), "endsAt": datetime.now(UTC).isoformat()}
            (await client.post("/api/v2/alerts", json=[ended])).raise_for_status()
            over = await played.received("Прошло")
    assert "Срочно" in urgent
    assert "vision doctor" in urgent
    assert "Посмотреть сегодня" in calm
    assert "docker compose exec worker vision dlq ls" in calm
    assert "VisionDeadLetters" in over
    assert all(len(message["text"]) <= MAX_TELEGRAM_CHARACTERS for message in played.messages)
    assert not any("VisionNotReady" in message["text"] for message in played.messages), "VisionDown explains it"
    assert all("<5" not in message["text"] for message in played.messages), "values are not markup"


def test_the_inhibited_alerts_exist() -> None:
    example = yaml.safe_load((FOLDER / "alertmanager.yml").read_text())
    (rule,) = example["inhibit_rules"]
    named = set(re.findall(r"Vision\w+", " ".join([*rule["source_matchers"], *rule["target_matchers"]])))
    assert named <= set(ALERTS)
