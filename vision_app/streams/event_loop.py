"""Chooses the event loop of the worker's process.

With uvloop, a write to a connection that is just gone raises RuntimeError, which no client expects. Python's own loop
ignores the write; `drain`, or the missing answer, then shows the loss. `use_event_loop` makes both behave alike. Seen
with a child process that had ended before its input was written: the worker's start failed.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from functools import wraps
from typing import Any

from vision_app.settings import Settings, SettingsError
from vision_app.texts import say


def use_event_loop(settings: Settings) -> None:
    """Make new event loops, also those of Faust's threads, the kind that VISION_EVENT_LOOP names.

    Raises SettingsError when uvloop is demanded and cannot be imported.
    """
    if settings.vision_event_loop == "asyncio":
        return
    try:
        uvloop = importlib.import_module("uvloop")
    except ImportError as fault:
        if settings.vision_event_loop == "uvloop":
            raise SettingsError(
                say(
                    "VISION_EVENT_LOOP: uvloop cannot be imported ({fault}); install it, or set asyncio",
                    fault=fault,
                )
            ) from None
        return
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.StreamWriter.write = _ignoring_loss(asyncio.StreamWriter.write)  # type: ignore[method-assign,assignment]  # the library's
    asyncio.StreamWriter.writelines = _ignoring_loss(asyncio.StreamWriter.writelines)  # type: ignore[method-assign,assignment]  # the library's


def _ignoring_loss(write: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    @wraps(write)
    def written(writer: asyncio.StreamWriter, data: Any) -> None:
        try:
            write(writer, data)
        except RuntimeError as fault:
            if not writer.transport.is_closing() and "closed" not in str(fault):
                raise

    return written
