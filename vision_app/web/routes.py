"""Every page of the service and its path, and what stands before all of them."""

from __future__ import annotations

from typing import Any

from vision_app.settings import Settings

from .auth import authentication
from .budget import BudgetView
from .errors import uniform
from .health import AliveView, ReadyView
from .posts import PostView

MAX_BODY_BYTES = 64 * 1024
ROUTES = {
    "/healthz": AliveView,
    "/readyz": ReadyView,
    "/api/v1/vision/posts/{post_id}": PostView,
    "/api/v1/budget/{tenant}": BudgetView,
}


def add_routes(app: Any) -> None:
    """Register every view with Faust's web server."""
    for path, view in ROUTES.items():
        app.page(path, name=view.__name__)(view)


def web_options(settings: Settings) -> dict[str, Any]:
    """Options of the aiohttp application: uniform errors first, then authentication, then a bound on bodies."""
    return {"middlewares": [uniform, authentication(settings)], "client_max_size": MAX_BODY_BYTES}
