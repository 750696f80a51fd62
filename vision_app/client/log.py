"""The client's logger: a standard one, since it runs in others' programs, whose standard output is not ours."""

from __future__ import annotations

import logging
from typing import Any

import structlog

NAME = "vision_app.client"


def get_logger() -> Any:
    """Lines go to the standard logger `vision_app.client`; without configuration, warnings go to standard error."""
    return structlog.wrap_logger(
        logging.getLogger(NAME),
        processors=[structlog.processors.KeyValueRenderer(key_order=["event"])],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
