"""Every path of the page."""

from __future__ import annotations

from vision_app.web.page import Page

from .audit import AuditPart, AuditView
from .cost import CostView
from .dead_letters import DeadLettersChangeView, DeadLettersView, DeadLetterView
from .entry import AssetView, LoginView, LogoutView, PreferenceView, RootView
from .flow import FlowPart, FlowView
from .health import HealthPart, HealthView
from .post_now import PostNowPart
from .post_replay import PostReplayView
from .posts import PictureView, PostsView, PostView
from .storage import CleanupView, StorageView
from .tenants import TenantChangeView, TenantsView, TenantView

UI_ROUTES: dict[str, type[Page]] = {
    "/": RootView,
    "/ui": FlowView,
    "/ui/flow/part": FlowPart,
    "/ui/dead-letters": DeadLettersView,
    "/ui/dead-letter": DeadLetterView,
    "/ui/dead-letters/change": DeadLettersChangeView,
    "/ui/storage": StorageView,
    "/ui/storage/cleanup": CleanupView,
    "/ui/posts": PostsView,
    "/ui/post": PostView,
    "/ui/post/now": PostNowPart,
    "/ui/post/replay": PostReplayView,
    "/ui/picture": PictureView,
    "/ui/tenants": TenantsView,
    "/ui/tenant": TenantView,
    "/ui/tenant/change": TenantChangeView,
    "/ui/health": HealthView,
    "/ui/health/part": HealthPart,
    "/ui/audit": AuditView,
    "/ui/audit/part": AuditPart,
    "/ui/cost": CostView,
    "/ui/login": LoginView,
    "/ui/logout": LogoutView,
    "/ui/preference": PreferenceView,
    "/ui/static/{name}": AssetView,
}
