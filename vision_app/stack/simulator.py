"""The GigaChat simulator as an embedded service. What it does is in `vision_app.simulator`."""

from __future__ import annotations

import sys

from vision_app.stack.home import Home
from vision_app.stack.instance import Instance
from vision_app.stack.ports import LOOPBACK
from vision_app.stack.services import Service, http_status
from vision_app.texts import say


class Simulator(Service):
    """Replaces GigaChat while no credentials are set, and sets GIGACHAT_SIMULATED."""

    name = "simulator"

    def __init__(self, home: Home, instance: Instance) -> None:
        super().__init__(home, instance)
        self.client_id = instance.key("gigachat-client-id", 12)
        self.client_secret = instance.key("gigachat-client-secret")

    def command(self) -> list[str]:
        place = ["--host", LOOPBACK, "--port", str(self.port), "--home", str(self.data)]
        return [sys.executable, "-m", "vision_app.simulator", *place]

    def environment(self) -> dict[str, str]:
        return {"GIGACHAT_CLIENT_ID": self.client_id, "GIGACHAT_CLIENT_SECRET": self.client_secret}

    async def waiting_for(self) -> str | None:
        answer = await http_status(f"{self.url}/healthz")
        return None if answer is not None and answer.status_code == 200 else say("GET /healthz to answer 200")

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def variables(self) -> dict[str, str]:
        return {
            "GIGACHAT_BASE_URL": f"{self.url}/api/v1",
            "GIGACHAT_AUTH_URL": f"{self.url}/api/v2/oauth",
            "GIGACHAT_CLIENT_ID": self.client_id,
            "GIGACHAT_CLIENT_SECRET": self.client_secret,
            "GIGACHAT_SIMULATED": "true",
        }
