"""vision_app: looks at every picture posted to a Telegram channel and tells the rest of an assistant what is on it."""

import os

__version__ = "0.1.0"

_crash_at, _raise_at = os.environ.get("VISION_CRASH_AT", ""), os.environ.get("VISION_RAISE_AT", "")
if _crash_at or _raise_at:  # the crash suite's; see the module
    from .crash_points import install

    install(_crash_at, _raise_at)
