"""The input event as its producers build it. The worker reads it with `vision_app.events.read_event`."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator

from vision_app.events import read_event
from vision_app.messages import Medium
from vision_app.settings import load_settings


class MediaFile(Medium):
    """One picture or document of a post. Unknown fields are kept."""


class VisionUploadedEventV1(BaseModel):
    """A post whose media are in S3, in any of the versions the worker reads. Unknown fields are kept.

    Raises pydantic.ValidationError when the worker could not read it.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    media_files: list[MediaFile]

    @model_validator(mode="after")
    def _readable(self) -> Self:
        event: dict[str, Any] = self.model_dump(mode="json")
        read_event(event, default_tenant=load_settings().s3_default_tenant_id)
        return self
