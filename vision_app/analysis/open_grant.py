"""A grant while its event is being handled. Its waits end when the event no longer belongs to this worker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from vision_app.messages import Grant
from vision_app.streams.faust_seams import Event, Worker
from vision_app.streams.outages import through_outages
from vision_app.streams.ownership import is_ours, sleep_while_ours, while_ours

Result = TypeVar("Result")


class OpenGrant:
    """`possible_cost`: tokens that a call on this grant may have cost; None until a call is begun."""

    def __init__(self, app: Worker, event: Event, grant: Grant) -> None:
        self._app, self._event = app, event
        self.grant = grant
        self.possible_cost: int | None = None

    @property
    def is_ours(self) -> bool:
        """False once the partition may belong to another worker: then nothing may be written or sent."""
        return is_ours(self._app, self._event)

    async def through_outages(self, attempt: Callable[[], Awaitable[Result]]) -> Result:
        """Repeat `attempt` until S3 and the decoders answer. Raises LeftUnacked."""
        return await through_outages(self._app, self._event, attempt, "s3")

    async def wait_for(self, awaitable: Awaitable[Result]) -> Result:
        """Await something that may take long. Raises LeftUnacked."""
        return await while_ours(self._app, self._event, awaitable)

    async def sleep(self, seconds: float) -> None:
        """Raises LeftUnacked."""
        await sleep_while_ours(self._app, self._event, seconds)
