"""`EventPublisher(redis).publish_event(...)`: puts an uploaded post on the worker's input stream."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

from vision_app.events import UPLOADED_EVENT
from vision_app.settings import load_settings
from worker.events.schemas import VisionUploadedEventV1


class EventPublisher:
    """Publishes on the first of VISION_INPUT_STREAMS. Takes a plain redis.asyncio client."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def publish_event(self, event_type: str, event: VisionUploadedEventV1) -> str:
        """Add the event; returns the id of its entry. Raises ValueError for an event that the worker rejects."""
        if event_type != UPLOADED_EVENT:
            raise ValueError(f"{event_type!r} is not an input of this worker; publish {UPLOADED_EVENT!r}")
        fields: dict[Any, Any] = {"event": event_type, "data": event.model_dump_json(exclude_none=True)}
        entry_id = await self._redis.xadd(load_settings().input_streams[0], fields)
        return entry_id.decode() if isinstance(entry_id, bytes) else str(entry_id)
