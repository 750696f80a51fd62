"""Chooses the event loop of the worker's process."""

from __future__ import annotations

import asyncio
import importlib

from vision_app.settings import Settings, SettingsError


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
                f"VISION_EVENT_LOOP: uvloop cannot be imported ({fault}); install it, or set asyncio"
            ) from None
        return
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
