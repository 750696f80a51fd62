"""Reads pictures by OCR where the provider gives no answer and the policy allows it."""

from __future__ import annotations

import time

import structlog

from vision_app.messages import Analyzed, Failed, Grant, Skipped
from vision_app.providers.base import Picture
from vision_app.providers.ocr import OcrFault, Tesseract
from vision_app.stores.answers import AnswerStore
from vision_app.stores.s3 import StoreUnavailable
from vision_app.telemetry import metrics

from .open_grant import OpenGrant
from .pictures import Pictures
from .results import analyzed_outcome, ocr_answer, stored_answer

log = structlog.get_logger(__name__)


class OcrFallback:
    """`ocr` None: OCR is switched off."""

    def __init__(self, answers: AnswerStore, pictures: Pictures, ocr: Tesseract | None) -> None:
        self._answers, self._pictures, self._ocr = answers, pictures, ocr

    async def stored(self, open_grant: OpenGrant) -> Analyzed | None:
        """A stored answer of OCR about the picture, or None."""
        task = open_grant.grant.task
        found = await open_grant.through_outages(
            lambda: self._answers.find(task.tenant_id, task.medium.sha256, "ocr_fallback")
        )
        if found is None or found.answer.analysis is None:
            return None
        return analyzed_outcome(found.answer, self._key(open_grant.grant), cached=True)

    async def read(self, open_grant: OpenGrant, otherwise: Skipped | Failed) -> Analyzed | Skipped | Failed:
        """What OCR reads in the picture if that is allowed and works, else `otherwise`."""
        grant = open_grant.grant
        if self._ocr is None or not self._ocr.available or not grant.task.ocr_allowed:
            return otherwise
        picture = await open_grant.through_outages(lambda: self._pictures.read(grant.task.medium))
        if not isinstance(picture, Picture):
            return picture
        started = time.monotonic()
        try:
            analysis, model = await self._ocr.read(picture)
        except OcrFault as fault:
            log.warning("ocr_failed", reason=str(fault))
            return otherwise
        answer = ocr_answer(analysis, model, time.monotonic() - started)
        try:
            await self._answers.save(stored_answer(grant, answer, ""))
        except StoreUnavailable as fault:
            metrics.RETRIES.labels(stage="s3").inc()
            log.warning("ocr_answer_not_stored", error=str(fault))
        return analyzed_outcome(answer, self._key(grant), cached=False)

    def _key(self, grant: Grant) -> str:
        return self._answers.key(grant.task.tenant_id, grant.task.medium.sha256, "ocr_fallback")
