"""The name of a worker."""

from __future__ import annotations

import os
import socket

from vision_app.settings import Settings


def worker_id(settings: Settings) -> str:
    """The name of this worker, unique and the same after a restart: VISION_WORKER_ID, or host and port.

    Its processes, if there are several, add `-1`, `-2`, … to it.
    """
    return os.environ.get("VISION_WORKER_ID") or f"{socket.gethostname()}-{settings.vision_api_port}"
