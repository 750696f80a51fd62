"""Cursors of pages: the place where a page ended, as an opaque text. They are checked like any other input."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Annotated

import orjson
from pydantic import AfterValidator, Field

from vision_app.stores.post_search import Place

MAX_CHARACTERS = 4096
_WRONG = "not a cursor of this API; take `next_cursor` of the page before, or leave it out for the first page"


def encode_place(place: Place) -> str:
    """The cursor of the page behind this place."""
    text = orjson.dumps([place.updated_at.isoformat(), place.tenant_id, place.post_id])
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def decode_place(cursor: str) -> Place:
    """The place that a cursor names. Raises ValueError if the text is no cursor."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        at, tenant_id, post_id = orjson.loads(text)
        updated_at = datetime.fromisoformat(at)
    except (binascii.Error, ValueError, TypeError):
        raise ValueError(_WRONG) from None
    names = (tenant_id, post_id)
    if updated_at.tzinfo is None or not all(isinstance(name, str) and "\x00" not in name for name in names):
        raise ValueError(_WRONG)
    place = Place(updated_at, tenant_id, post_id)
    if encode_place(place) != cursor.rstrip("="):  # one place has one cursor
        raise ValueError(_WRONG)
    return place


def _checked(cursor: str) -> str:
    decode_place(cursor)
    return cursor


PostCursor = Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS), AfterValidator(_checked)]
