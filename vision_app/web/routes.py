"""Every page of the service with its path, and the middlewares before all of them."""

from __future__ import annotations

from typing import Any

from vision_app.settings import Settings

from .audit import AuditView
from .auth import authentication, known_host, same_origin
from .budget import BudgetView, PauseView, ResetView, ResumeView
from .budget_list import BudgetStatesView, BudgetsView
from .changes import ChangesView
from .client_address import told_by_supervisor
from .cost import CostView
from .dead_letters import DiscardView, LettersView, LetterView, ReplayView
from .errors import uniform
from .health import AliveView, ReadyView
from .health_report import HealthView
from .media import MediaView
from .openapi import document_view
from .page import Page
from .parked import ParkedTaskView, ParkedView
from .pipeline import PipelineView
from .post_now import OwnPostView, PostNowView
from .post_replay import PostReplayView
from .post_search import PostSearchView
from .posts import PostsView, PostView
from .rate import rate_limit
from .server import mark_busy
from .share import fair_share
from .stats import StatsView
from .storage import CleanupView, QuotaCheckView, QuotaView, StorageStatsView, UsageView
from .thumbnails import ThumbnailView
from .timeline import TimelineView
from .ui.api_docs import docs_view
from .ui.base import html_errors
from .ui.routes import UI_ROUTES
from .worker import ServedWorker

ROUTES: dict[str, type[Page]] = {
    "/healthz": AliveView,
    "/readyz": ReadyView,
    "/api/v1/vision/posts": PostsView,
    "/api/v1/vision/posts/{post_id}": PostView,
    "/api/v1/vision/media/{sha256}": MediaView,
    "/api/v1/vision/stats": StatsView,
    "/api/v1/posts": PostSearchView,
    "/api/v1/posts/{post_id}/timeline": TimelineView,
    "/api/v1/posts/{post_id}/live": PostNowView,
    "/api/v1/posts/{post_id}/live/own": OwnPostView,
    "/api/v1/posts/{post_id}/replay": PostReplayView,
    "/api/v1/media/{sha256}/thumbnail": ThumbnailView,
    "/api/v1/changes": ChangesView,
    "/api/v1/budgets": BudgetsView,
    "/api/v1/budget-states": BudgetStatesView,
    "/api/v1/budget/{tenant}": BudgetView,
    "/api/v1/budget/{tenant}/reset": ResetView,
    "/api/v1/budget/{tenant}/pause": PauseView,
    "/api/v1/budget/{tenant}/resume": ResumeView,
    "/api/v1/budget/{tenant}/parked": ParkedView,
    "/api/v1/budget/{tenant}/parked/{number}": ParkedTaskView,
    "/api/v1/dlq": LettersView,
    "/api/v1/dlq/actions/replay": ReplayView,
    "/api/v1/dlq/actions/discard": DiscardView,
    "/api/v1/dlq/{id}": LetterView,
    "/api/v1/cost": CostView,
    "/api/v1/audit": AuditView,
    "/api/v1/pipeline": PipelineView,
    "/api/v1/health": HealthView,
    "/api/v1/storage/quota": QuotaView,
    "/api/v1/storage/quota/check": QuotaCheckView,
    "/api/v1/storage/stats": StorageStatsView,
    "/api/v1/storage/usage/{tenant_id}": UsageView,
    "/api/v1/storage/cleanup": CleanupView,
}
DOCUMENT, DOCUMENT_PAGE = "/openapi.json", "/docs"


def add_routes(app: ServedWorker) -> None:
    """Register every view with Faust's web server."""
    documents = {DOCUMENT: document_view(ROUTES), DOCUMENT_PAGE: docs_view(ROUTES)}
    for path, view in {**ROUTES, **documents, **UI_ROUTES}.items():
        app.page(path, name=view.__name__)(view)


def web_options(settings: Settings) -> dict[str, Any]:
    """Options of aiohttp.

    Middlewares in order: busy mark, errors, the caller's address, host name, authentication, limits, origin.
    """
    before = [mark_busy, uniform, html_errors, told_by_supervisor()]
    guards = [known_host(settings), authentication(settings), rate_limit(settings), fair_share(settings), same_origin]
    return {"middlewares": [*before, *guards], "client_max_size": settings.vision_api_max_body_bytes}
