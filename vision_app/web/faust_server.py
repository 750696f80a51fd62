"""Faust's web server with our limits (`server.py`). A module of its own: a supervisor has the limits without Faust."""

from __future__ import annotations

from typing import Any, ClassVar

from faust.web.drivers.aiohttp import Web

from vision_app.settings import Settings

from .server import BoundedRunner


class BoundedWeb(Web):
    """Faust's web server on a runner with limits. `/` is ours, not Faust's."""

    production_blueprints: ClassVar[Any] = ()

    def __init__(self, app: Any, settings: Settings) -> None:
        super().__init__(app)
        self._runner = BoundedRunner(
            self.web_app,
            max_connections=settings.vision_api_max_connections,
            idle_seconds=settings.vision_api_idle_seconds,
        )
