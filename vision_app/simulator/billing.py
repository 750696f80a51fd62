"""The bill: each client's charges, call by call, so that the accountant can compare them.

With a home folder each entry is one line of `bill.jsonl`, written before the answer leaves; lines are only appended to
the file, and it is read again at start. Files and tokens are not part of it and do not survive a restart.
"""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from vision_app.simulator.pricing import Usage


@dataclass(frozen=True, slots=True)
class Call:
    """One chat call. Token counts are zero when it was not billed."""

    time: float  # seconds since the epoch
    client_id: str
    request_id: str  # the X-Request-ID of the answer, the client's own or generated
    client_request_id: str | None  # X-Request-ID as the client sent it
    session_id: str
    model: str
    sha256: tuple[str, ...]  # of the attached files
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    precached_prompt_tokens: int
    billed: bool
    outcome: str


@dataclass(slots=True)
class ClientBill:
    """Everything known about one client since the last reset."""

    calls: list[Call] = field(default_factory=list)
    oauth_calls: int = 0
    in_flight: int = 0
    max_in_flight: int = 0

    def summary(self, since: float = 0.0) -> dict[str, Any]:
        """Sums over all entries, and the entries from `since` (seconds since the epoch) on."""
        billed = [call for call in self.calls if call.billed]
        return {
            "calls": len(billed),
            "attempts": len(self.calls),
            "tokens": {
                name: sum(getattr(call, name) for call in billed)
                for name in ("prompt_tokens", "completion_tokens", "total_tokens", "precached_prompt_tokens")
            },
            "oauth_calls": self.oauth_calls,
            "in_flight": self.in_flight,
            "max_concurrent": self.max_in_flight,
            "entries": [asdict(call) for call in self.calls if call.time >= since],
        }


class Bill:
    """All accounts. Raises OSError when a line cannot be written: an unrecorded call must not be answered."""

    def __init__(self, home: Path | None = None) -> None:
        self.accounts: dict[str, ClientBill] = defaultdict(ClientBill)
        self._file: BinaryIO | None = None
        if home is not None:
            home.mkdir(parents=True, exist_ok=True)
            path = home / "bill.jsonl"
            self._replay(path)
            self._file = path.open("ab")

    def charge(self, usage: Usage | None, **details: Any) -> Call:
        """Record a call; `usage` None means it was refused and costs nothing."""
        call = Call(
            prompt_tokens=usage.prompt if usage else 0,
            completion_tokens=usage.completion if usage else 0,
            total_tokens=usage.total if usage else 0,
            precached_prompt_tokens=usage.precached if usage else 0,
            billed=usage is not None,
            **details,
        )
        self._write({"type": "call", **asdict(call)})
        self.accounts[call.client_id].calls.append(call)
        return call

    def oauth(self, client_id: str, time: float) -> None:
        self._write({"type": "oauth", "client_id": client_id, "time": time})
        self.accounts[client_id].oauth_calls += 1

    def enter(self, client_id: str) -> None:
        """A chat request of the client is in flight until `leave`."""
        account = self.accounts[client_id]
        account.in_flight += 1
        account.max_in_flight = max(account.max_in_flight, account.in_flight)

    def leave(self, client_id: str) -> None:
        self.accounts[client_id].in_flight -= 1

    def in_flight(self, client_id: str) -> int:
        return self.accounts[client_id].in_flight

    def reset(self) -> None:
        """Forget all calls. The file keeps them, followed by a reset line."""
        self._write({"type": "reset"})
        self._clear()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _clear(self) -> None:
        in_flight = {client: account.in_flight for client, account in self.accounts.items() if account.in_flight}
        self.accounts.clear()
        for client, count in in_flight.items():
            self.accounts[client] = ClientBill(in_flight=count, max_in_flight=count)

    def _write(self, entry: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(orjson.dumps(entry) + b"\n")
            self._file.flush()

    def _replay(self, path: Path) -> None:
        if not path.exists():
            return
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) != len(data):  # the process died while writing the last line
            os.truncate(path, len(whole))
        for line in whole.splitlines():
            self._apply(orjson.loads(line))

    def _apply(self, entry: dict[str, Any]) -> None:
        match entry.pop("type"):
            case "call":
                call = Call(**{**entry, "sha256": tuple(entry["sha256"])})
                self.accounts[call.client_id].calls.append(call)
            case "oauth":
                self.accounts[entry["client_id"]].oauth_calls += 1
            case "reset":
                self._clear()
