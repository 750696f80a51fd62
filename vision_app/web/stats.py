"""Totals over the analyzed posts, of one tenant or of all."""

from __future__ import annotations

from aiohttp import web

from .auth import tenant_asked
from .errors import json_response
from .models import ByProvider, StatsAnswer, TenantQuery, TokenStats
from .operation import operation
from .page import Page


class StatsView(Page):
    """GET /api/v1/vision/stats: how many posts were analyzed, by which provider, as which type, for how many tokens."""

    @operation("Totals over analyzed posts", query=TenantQuery, answers={200: StatsAnswer}, errors=(503,))
    async def get(self, request: web.Request, query: TenantQuery) -> web.Response:
        async with self.app.readers.for_page() as reader:
            row = await reader.stats(tenant_asked(request, query.tenant_id))
        posts, tokens = row["total_analyzed"], row["tokens"]
        answer = StatsAnswer(
            total_analyzed=posts,
            memes_count=row["memes_count"],
            by_provider=ByProvider(gigachat=row["gigachat"], ocr=row["ocr"], cached=row["cached"]),
            tokens=TokenStats(total=tokens, average=round(tokens / posts, 1) if posts else 0),
            by_type=row["by_type"],
        )
        return json_response(request, answer)
