"""Examples of what the API answers about accounts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from vision_app.audit.figures import Figures, Waits

from .posts import AT

_SINCE = "2026-11-27T00:00:00Z"
_RUN: dict[str, Any] = {
    "id": 7,
    "state": "taken",
    "tenant_id": None,
    "since": _SINCE,
    "operator": "anna",
    "worker": "worker-1",
    "started_at": AT,
    "ended_at": AT,
    "reason": None,
}
_FIGURES = Figures(
    inputs=1200,
    posts=1180,
    ended=1200,
    analyzed=1010,
    skipped=190,
    events=1200,
    calls=940,
    tokens_billed=412_300,
    tokens_ledger=412_300,
    tokens_postgres=412_300,
)

AUDITS: dict[str, dict[str, Any]] = {
    "AuditBody": {"since": _SINCE, "tenant_id": None},
    "AuditAnswer": {
        "state": "taken",
        "audit": _RUN,
        "running": None,
        "summary": {
            "clean": True,
            "taken_at": AT,
            "since": _SINCE,
            "seconds": 3.2,
            "tenants": 3,
            "bill_available": False,
            "figures": asdict(_FIGURES),
            "waits": asdict(Waits(count=1200, p50_ms=700, p95_ms=1900, max_ms=4100)),
            "skipped_because": {"unsupported_mime": 190},
            "extra_because": {},
            "discrepancies_total": 0,
            "discrepancies": [],
            "notes": [
                "no bill: GigaChat is real and shows none; the worker's own records of paid calls stand in for it"
            ],
        },
    },
    "AuditStartedAnswer": {
        "audit": {**_RUN, "state": "running", "ended_at": None},
        "see": "/api/v1/audit",
    },
}
