"""The worker's pages as an aiohttp application: for tests that need no Faust."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from vision_app.settings import Settings
from vision_app.web.page import Page
from vision_app.web.routes import ROUTES, web_options


def application(settings: Settings, worker: Any, routes: Mapping[str, type[Page]] = ROUTES) -> web.Application:
    """The pages of `routes` (path to view) with all their guards, except the limits on connections."""
    app = web.Application(**web_options(settings))
    for path, view in routes.items():
        page = view(worker, None)  # type: ignore[arg-type]  # a worker without Faust
        for method in page.get_methods():
            app.router.add_route(method, path, page.dispatch)
    return app
