"""Every path of the page."""

from __future__ import annotations

from vision_app.web.page import Page

from .entry import AssetView, LoginView, LogoutView, PreferenceView, RootView
from .flow import FlowPart, FlowView
from .tenants import TenantChangeView, TenantsView, TenantView

UI_ROUTES: dict[str, type[Page]] = {
    "/": RootView,
    "/ui": FlowView,
    "/ui/flow/part": FlowPart,
    "/ui/tenants": TenantsView,
    "/ui/tenant": TenantView,
    "/ui/tenant/change": TenantChangeView,
    "/ui/login": LoginView,
    "/ui/logout": LogoutView,
    "/ui/preference": PreferenceView,
    "/ui/static/{name}": AssetView,
}
