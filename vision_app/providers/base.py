"""The interface of every provider of picture analyses, and the tree of its errors.

ProviderError
├── ProviderOutage      the service cannot be reached or is broken; nothing was spent; wait at the gate
│   └── RateLimited     too many requests in flight; nothing was spent; wait `retry_after_seconds`
├── AccountBlocked      credentials, permission or a used-up package (401 after a refresh, 402, 403); park the work
├── InputFault          this picture is refused (400, 413, 422, wrong type); nothing was spent; never retry as it is
└── CallLost            the request was sent and no complete answer came; the call may have been billed
"""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field


class ProviderError(Exception):
    """The provider gave no answer. See the subclass for what to do."""


class ProviderOutage(ProviderError):
    """The provider cannot be reached or is not available. Nothing was spent; the task waits at the gate."""


class RateLimited(ProviderOutage):
    """The provider has too many requests of ours in flight. Lower VISION_PROVIDER_STREAMS if this keeps happening."""

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class AccountBlocked(ProviderError):
    """The account may not ask: check GIGACHAT_CREDENTIALS, GIGACHAT_SCOPE and the paid package."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class InputFault(ProviderError):
    """The provider refuses this picture. It is not sent again as it is."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class CallLost(ProviderError):
    """The request went out and no complete answer came back, so it may have been billed."""


@dataclass(frozen=True)
class Picture:
    """The bytes to send, already checked and scaled (`providers/decoding.py`). Sides are pixels; 0 for documents."""

    content: bytes
    mime_type: str
    width: int
    height: int

    @property
    def is_image(self) -> bool:
        return self.mime_type.startswith("image/")


@dataclass(frozen=True)
class CallTrace:
    """Ids that link a call to our logs and to the provider's: sent as X-Request-ID (the grant) and X-Session-ID."""

    trace_id: str
    request_id: str


@dataclass(frozen=True)
class RawAnswer:
    """The billed answer as it came, usable or not."""

    content: str
    finish_reason: str | None
    model: str
    tokens: int
    usage: dict[str, int] = field(default_factory=dict)
    request_id: str | None = None
    duration_ms: int = 0


BeforeChat = Callable[[], Awaitable[None]]
Refused = Callable[[], Awaitable[None]]


async def nothing() -> None:
    """A hook without effect."""


class VisionProvider(abc.ABC):
    """A service that looks at pictures. One instance per worker; calls run concurrently."""

    name: str

    @abc.abstractmethod
    async def open(self) -> None:
        """Prepare. Must not fail when the service is down."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Close the connections. Called once, after the last call ended."""

    @abc.abstractmethod
    def analyze(
        self,
        picture: Picture | None,
        prompt: str,
        trace: CallTrace,
        before_chat: BeforeChat,
        refused: Refused = nothing,
    ) -> AbstractAsyncContextManager[RawAnswer]:
        """Ask about one picture, or send the prompt alone (None). Store the answer inside the block.

        `before_chat` is awaited right before each request that may cost money. An error of it ends the call; its time
        does not count towards the call's deadline. `refused` is awaited when such a request certainly cost nothing and
        will be repeated after a pause. During the pause no request is in flight. The provider's copy of the picture is
        deleted when the block ends, so that a paid answer is stored first. Entering raises only ProviderError (see the
        tree above), CancelledError and errors of `before_chat` and `refused`.
        """
