"""One medium: where it is stored, and its last analysis in a post of the same tenant, never of another tenant."""

from __future__ import annotations

from aiohttp import web

from .auth import tenant_asked
from .errors import ApiError, json_response
from .models import MediaAnswer, MediaPath, TenantQuery
from .operation import operation
from .page import Page
from .readers import only_row


class MediaView(Page):
    """GET /api/v1/vision/media/{sha256}: a medium by its SHA-256. Each tenant sees its own object and analysis."""

    @operation(
        "A medium and its latest analysis",
        path=MediaPath,
        query=TenantQuery,
        answers={200: MediaAnswer},
        errors=(404, 409, 503),
    )
    async def get(self, request: web.Request, path: MediaPath, query: TenantQuery) -> web.Response:
        tenant_id = tenant_asked(request, query.tenant_id)
        async with self.app.readers.for_page() as reader:
            row = only_row(await reader.medium(path.sha256, tenant_id), "this medium")
        if row is None:
            raise ApiError(404, "not_found", f"no post has listed a medium {path.sha256}")
        return json_response(request, MediaAnswer(**row, expired=row["expired_at"] is not None))
