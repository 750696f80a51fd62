"""Examples of what the API answers about budgets and cost."""

from __future__ import annotations

from typing import Any

from .posts import AT_MS, POST, SHA, TENANT, TRACE

_LEDGER: dict[str, Any] = {
    "tenant_id": TENANT,
    "day": "2026-11-28",
    "limit": 250_000,
    "default_limit": True,
    "spent": 118_400,
    "reserved": 3000,
    "remaining": 128_600,
    "waiting": 0,
    "open_grants": 2,
    "paused": False,
    "loaded": True,
    "reset_at": "2026-11-29T00:00:00Z",
    "known": True,
    "note": None,
}
_TASK: dict[str, Any] = {
    "number": 7,
    "post_id": POST,
    "trace_id": TRACE,
    "sha256": SHA,
    "estimate": 1500,
    "purpose": "answer",
    "ocr_allowed": False,
    "since_ms": AT_MS,
    "announced": False,
}
_SAVED: dict[str, Any] = {"how": "cache", "media": 14, "tokens": 18_480, "estimated": False}
_GROUP: dict[str, Any] = {
    "group": TENANT,
    "calls": 89,
    "tokens": 118_400,
    "cut_off_tokens": 0,
    "money": "177.60",
    "saved": [_SAVED],
}

MONEY: dict[str, dict[str, Any]] = {
    "BudgetAnswer": _LEDGER,
    "BudgetsAnswer": {
        "budgets": [{"trace_id": "", **_LEDGER, "state": "ok", "exhausted_at": None}],
        "next_cursor": None,
        "unknown": [],
    },
    "BudgetStatesAnswer": {"budgets": [{"trace_id": "", **_LEDGER}]},
    "LimitBody": {"limit": 500_000},
    "AcceptedAnswer": {
        "accepted": True,
        "command": "reset",
        "tenant_id": TENANT,
        "operator": "anna",
        "recorded": True,
        "see": f"/api/v1/budget/{TENANT}",
    },
    "ParkedAnswer": {"tenant_id": TENANT, "waiting": 1, "tasks": [_TASK], "next_start": None, "granted": ["p-1000"]},
    "ParkedTaskAnswer": {"tenant_id": TENANT, "task": _TASK},
    "CostAnswer": {
        "by": "tenant",
        "since": "2026-11-28T00:00:00Z",
        "until": "2026-11-28T12:00:00Z",
        "rows": [_GROUP],
        "total": {**_GROUP, "group": "total"},
        "month": {
            "name": "2026-11",
            "tokens": 5_204_300,
            "money": "7806.45",
            "forecast_tokens": 5_677_400,
            "forecast_money": "8516.10",
        },
        "unpriced": [],
    },
}
