"""What the client raises.

VisionError
├── PictureRefused   a picture cannot be uploaded
├── ServiceAway      Redis, S3 or the worker's API does not answer
├── NotAnnounced     a post was not announced in time
└── ApiRefused       the API answered with an error
"""

from __future__ import annotations

from typing import Any


class VisionError(Exception):
    """Base of the client's errors."""


class PictureRefused(VisionError):
    """The picture cannot be uploaded. The text says why: its type, its size, or no room (`vision storage cleanup`)."""


class ServiceAway(VisionError):
    """A service does not answer. The text names it and the setting to check; trying again is harmless."""


class NotAnnounced(VisionError):
    """The post has not ended yet. It is not lost: wait again, or look with `vision trace POST` at what it waits for."""


class ApiRefused(VisionError):
    """The API answered with an error: `status`, `code` for programs, and its text, which says what to do."""

    def __init__(self, status: int, code: str, text: str, details: Any = None) -> None:
        super().__init__(f"{status} {code}: {text}")
        self.status, self.code, self.details = status, code, details
