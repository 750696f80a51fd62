"""Stores paid answers and records of paid calls in S3, so that nothing is paid twice.

An answer is stored under its cache key before anything else learns of it. A call record says whether the call of one
grant was begun, and how it ended. Whether to call is decided by the caller of this module. Errors of S3 are raised
unchanged (`s3.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import structlog
from pydantic import BaseModel, ValidationError

from vision_app.domain.calls import CallRecord, StoredAnswer
from vision_app.messages import Provider, Verdict
from vision_app.prompts import PROMPT_VERSION

from .keys import answer_key, call_key
from .s3 import ObjectForbidden, ObjectMissing, S3Store, StoreMisconfigured

log = structlog.get_logger(__name__)

BAD_ANSWER_LIFETIME = timedelta(hours=24)
"""How long a refused, unusable or partial answer is reused before the picture is asked about again."""

MAX_STORED_BYTES = 8 * 1024 * 1024
JSON_TYPE = "application/json"

Model = TypeVar("Model", bound=BaseModel)


class AnswerStore:
    """Answers by tenant, picture and provider, for one model and prompt version.

    `model` and `prompt_version` are the configured ones, not those an answer reports: the service reports a more
    specific model name, which must not split the cache.
    """

    def __init__(
        self, s3: S3Store, model: str, prompt_version: str = PROMPT_VERSION, ocr_model: str = "tesseract"
    ) -> None:
        self._s3 = s3
        self._models: Mapping[Provider, str] = {"gigachat": model, "ocr_fallback": ocr_model}
        self._prompt_version = prompt_version

    @property
    def model(self) -> str:
        """The model that is asked."""
        return self._models["gigachat"]

    def key(self, tenant_id: str, sha256: str, provider: Provider) -> str:
        """The cache key of an answer."""
        return answer_key(tenant_id, sha256, provider, self._models[provider], self._prompt_version)

    async def find(
        self, tenant_id: str, sha256: str, provider: Provider, *, only_good: bool = False
    ) -> StoredAnswer | None:
        """The answer to reuse, or None: a good one at any age, others for a day and not if `only_good` (force)."""
        key = self.key(tenant_id, sha256, provider)
        content = await self._read(key)
        stored = _parsed(StoredAnswer, key, content) if content is not None else None
        if stored is None or (stored.tenant_id, stored.sha256) != (tenant_id, sha256):
            return None
        if stored.answer.verdict == "ok":
            return stored
        fresh = datetime.now(UTC) - stored.stored_at < BAD_ANSWER_LIFETIME
        return stored if fresh and not only_good else None

    async def save(self, stored: StoredAnswer) -> str:
        """Keep an answer, replacing an earlier one. Returns its key."""
        key = self.key(stored.tenant_id, stored.sha256, stored.answer.provider)
        await self._put(key, stored)
        return key

    async def call(self, tenant_id: str, grant_id: str) -> CallRecord | None:
        """The record of a grant's call; None if no call was begun. An unreadable record counts as begun."""
        key = call_key(tenant_id, grant_id)
        if (stored := await self._read(key)) is None:
            return None
        return _parsed(CallRecord, key, stored) or CallRecord(state="started", grant_id=grant_id, at=datetime.now(UTC))

    async def start_call(self, tenant_id: str, grant_id: str, owner: str) -> None:
        """Note that the request is about to be sent, and by which process."""
        record = CallRecord(state="started", grant_id=grant_id, owner=owner, at=datetime.now(UTC))
        await self._put(call_key(tenant_id, grant_id), record)

    async def finish_call(
        self, tenant_id: str, grant_id: str, tokens: int, verdict: Verdict, answer_key: str | None = None
    ) -> None:
        """Note what the call cost and where its answer is. The answer itself must be stored already."""
        record = CallRecord(
            state="done",
            grant_id=grant_id,
            tokens=tokens,
            verdict=verdict,
            answer_key=answer_key,
            at=datetime.now(UTC),
        )
        await self._put(call_key(tenant_id, grant_id), record)

    async def clear_call(self, tenant_id: str, grant_id: str) -> None:
        """Delete the record of a call that was refused before any work was done, so that it cost nothing."""
        await self._s3.delete([call_key(tenant_id, grant_id)])

    async def _read(self, key: str) -> bytes | None:
        try:
            return await self._s3.read(key, MAX_STORED_BYTES)
        except ObjectMissing:
            return None
        except ObjectForbidden as fault:
            raise _not_ours(key) from fault

    async def _put(self, key: str, record: BaseModel) -> None:
        try:
            await self._s3.put(key, record.model_dump_json().encode(), JSON_TYPE)
        except ObjectForbidden as fault:
            raise _not_ours(key) from fault


def _parsed(model: type[Model], key: str, content: bytes) -> Model | None:
    try:
        return model.model_validate_json(content)
    except ValidationError as fault:
        log.warning("stored_object_unreadable", key=key, errors=fault.error_count())
        return None


def _not_ours(key: str) -> StoreMisconfigured:
    """Access to our own keys is denied. That is not the fault of a picture; all tasks wait until access is granted."""
    return StoreMisconfigured(
        f"access to {key} is refused; grant the access key read and write on vision/", "AccessDenied"
    )
