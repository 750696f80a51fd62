"""Composition of the simulator: application, middlewares, start and stop."""

from __future__ import annotations

import base64
import ssl
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from vision_app.simulator import admin, routes
from vision_app.simulator.config import JSON_BODY_MAX_BYTES, SimulatorConfig
from vision_app.simulator.errors import ApiError, api_error
from vision_app.simulator.faults import RULES
from vision_app.simulator.state import REQUEST_ID, SESSION_ID, SIMULATOR, Simulator

_SHUTDOWN_SECONDS = 0.2  # requests in flight are cut off: a stop must be immediate

log = structlog.get_logger(__name__)


def create_app(config: SimulatorConfig | None = None) -> web.Application:
    """The simulator as an aiohttp application. Raises OSError when the bill in `config.home` cannot be opened."""
    app = web.Application(middlewares=[_errors, _identity], client_max_size=JSON_BODY_MAX_BYTES)
    app[SIMULATOR] = Simulator.create(config or SimulatorConfig())
    app.add_routes(admin.routes())
    app.add_routes(routes.routes())
    app.on_response_prepare.append(_stamp)
    app.on_shutdown.append(_close)
    app.on_cleanup.append(_cleanup)
    return app


@dataclass(frozen=True, slots=True)
class RunningSimulator:
    """A started simulator: its addresses and, for tests in the same process, control over it."""

    origin: str
    state: Simulator

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"

    @property
    def base_url_v2(self) -> str:
        return f"{self.origin}/v2"

    @property
    def auth_url(self) -> str:
        return f"{self.origin}/api/v2/oauth"

    @property
    def admin_url(self) -> str:
        return f"{self.origin}/admin"

    @staticmethod
    def credentials(client_id: str = "client", secret: str = "secret") -> str:  # noqa: S107 - any pair is accepted
        """base64(client_id:client_secret), as clients configure it."""
        return base64.b64encode(f"{client_id}:{secret}".encode()).decode()

    def add_faults(self, *rules: dict[str, Any]) -> list[int]:
        """Like POST /admin/faults. Raises pydantic.ValidationError."""
        return self.state.faults.add(RULES.validate_python(list(rules)))

    def clear_faults(self) -> None:
        self.state.faults.clear()

    def bill(self, client_id: str = "client") -> dict[str, Any]:
        """The bill of one client, as in GET /admin/bill."""
        return admin.account(self.state, client_id)

    def reset(self) -> None:
        self.state.reset()


@asynccontextmanager
async def running_simulator(
    config: SimulatorConfig | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[RunningSimulator]:
    """Run a simulator on `host:port` (0: a free port) for the length of the block, over TLS if a context is given."""
    app = create_app(config)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, ssl_context=tls).start()
        bound = runner.addresses[0][1]
        yield RunningSimulator(f"{'https' if tls else 'http'}://{_in_url(host)}:{bound}", app[SIMULATOR])
    finally:
        await runner.cleanup()


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ApiError as refused:
        return refused.response()
    except web.HTTPNotFound:
        return api_error(404, "Not found").response()
    except web.HTTPMethodNotAllowed as refused:
        return api_error(405, "Method not allowed", {"Allow": refused.headers["Allow"]}).response()
    except (web.HTTPException, ConnectionError):
        raise
    except Exception:  # the client must get the API's error shape for every failure
        log.exception("simulator_failed", path=request.path, remedy="report this line with its traceback")
        return api_error(500).response()


@web.middleware
async def _identity(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request its ids and refuse it without User-Agent, as the vendor's gateway does."""
    request[REQUEST_ID] = request.headers.get("X-Request-ID") or str(uuid.uuid4())
    request[SESSION_ID] = request.headers.get("X-Session-ID") or str(uuid.uuid4())
    anonymous = not request.headers.get("User-Agent") and request.path.startswith(("/v", "/api/"))
    if anonymous and request.app[SIMULATOR].config.require_user_agent:
        raise api_error(403, "Unauthorized")
    return await handler(request)


async def _stamp(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "SynGX"
    if REQUEST_ID in request:
        response.headers["X-Request-ID"] = request[REQUEST_ID]
        response.headers["X-Session-ID"] = request[SESSION_ID]


async def _close(app: web.Application) -> None:
    app[SIMULATOR].closing.set()


async def _cleanup(app: web.Application) -> None:
    app[SIMULATOR].bill.close()
