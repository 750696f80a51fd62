"""How a grant proves that the ledger gave it: a keyed hash over what it allows. Pure; the key is in the settings.

Any other record in `vision.analysis` (written by hand, from a version that did not sign, or changed on the way) allows
no call. Its task asks the ledger for a new grant.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Literal

from vision_app.messages import Grant

VALID_MS = 24 * 60 * 60 * 1000
"""After a day the ledger counts a grant as lost (`budget.LOST_AFTER_MS`). So no call may be made on an older one."""

Flaw = Literal["unsigned", "foreign", "expired"]


def key_from(secret: str) -> bytes:
    """The signing key derived from a secret. It does not reveal the secret."""
    return hashlib.sha256(b"vision_app grants\0" + secret.encode()).digest()


def signed(grant: Grant, key: bytes) -> Grant:
    """The grant with the ledger's signature."""
    return grant.model_copy(update={"signature": _signature(grant, key)})


def flaw_of(grant: Grant, key: bytes, now_ms: int) -> Flaw | None:
    """Why no call may be made on this grant; None if it is the ledger's and still valid."""
    if not grant.signature:
        return "unsigned"
    if not hmac.compare_digest(grant.signature.encode(), _signature(grant, key).encode()):
        return "foreign"
    return "expired" if now_ms - _granted_ms(grant) >= VALID_MS else None


def _granted_ms(grant: Grant) -> int:
    return grant.task.times.get("granted", 0)


def _signature(grant: Grant, key: bytes) -> str:
    """Covers every field that decides what is asked, for whom and at what cost. All versions use the same list."""
    task = grant.task
    what = (grant.id, grant.provider, grant.purpose, str(grant.estimate), str(_granted_ms(grant)))
    whom = (task.tenant_id, task.post_id, str(task.dispatch), str(task.attempt), str(task.force))
    medium = (task.medium.sha256, task.medium.s3_key, task.medium.mime_type, task.prompt_key)
    parts = [part.encode("utf-8", "surrogatepass") for part in (*what, *whom, *medium)]
    text = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return hmac.new(key, text, hashlib.sha256).hexdigest()
