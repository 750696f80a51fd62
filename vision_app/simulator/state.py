"""The state of one running simulator, and the keys under which request handlers find it and their ids."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

from aiohttp import web

from vision_app.simulator.billing import Bill
from vision_app.simulator.config import SimulatorConfig
from vision_app.simulator.faults import FaultRules
from vision_app.simulator.files import FileStore
from vision_app.simulator.oauth import Tokens
from vision_app.simulator.pricing import text_tokens

_SESSIONS_KEPT = 1000


class Sessions:
    """The last prompt of every session, for `precached_prompt_tokens`, and the last answer, for repairs."""

    def __init__(self) -> None:
        self._answers: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._prompts: OrderedDict[tuple[str, str], str] = OrderedDict()

    def remember(self, client_id: str, session_id: str | None, answer: str) -> None:
        """Remember the session's answer before any fault changed it."""
        if session_id:
            self._answers[client_id, session_id] = answer
            if len(self._answers) > _SESSIONS_KEPT:
                self._answers.popitem(last=False)

    def meant(self, client_id: str, session_id: str | None) -> str | None:
        """The session's last answer about a picture, before any fault."""
        return self._answers.get((client_id, session_id or ""))

    def precached(self, client_id: str, session_id: str | None, prompt: str) -> int:
        """Tokens at the beginning of `prompt` that the session's previous one shares; remembers `prompt`."""
        if not session_id:
            return 0
        key = client_id, session_id
        previous = self._prompts.pop(key, "")
        self._prompts[key] = prompt
        if len(self._prompts) > _SESSIONS_KEPT:
            self._prompts.popitem(last=False)
        same = next((i for i, (a, b) in enumerate(zip(prompt, previous, strict=False)) if a != b), None)
        return text_tokens(prompt[: min(len(prompt), len(previous)) if same is None else same])


@dataclass(slots=True)
class Simulator:
    """The state of one simulator."""

    config: SimulatorConfig
    tokens: Tokens
    files: FileStore
    bill: Bill
    faults: FaultRules
    sessions: Sessions = field(default_factory=Sessions)
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def create(cls, config: SimulatorConfig) -> Simulator:
        return cls(config, Tokens(config), FileStore(), Bill(config.home), FaultRules())

    def reset(self) -> None:
        """Forget calls, files, faults, sessions and tokens."""
        self.bill.reset()
        self.files.clear()
        self.faults.clear()
        self.tokens.revoke()
        self.sessions = Sessions()


REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
SESSION_ID: web.RequestKey[str] = web.RequestKey("session_id", str)
SIMULATOR: web.AppKey[Simulator] = web.AppKey("simulator", Simulator)
