"""Keeps whole dead letters that are too large for a Kafka record, one JSON object each (a `DeadLetter`).

They stay until an operator deletes them: a clean-up cannot know whether they are still needed.
"""

from __future__ import annotations

from .keys import dead_letter_key
from .s3 import S3Store

JSON_TYPE = "application/json"


class WholeLetters:
    def __init__(self, s3: S3Store) -> None:
        self._s3 = s3

    async def keep(self, letter_id: str, content: bytes) -> str:
        """Write a letter. Returns where it is, as s3://bucket/key. Raises S3Error."""
        key = dead_letter_key(letter_id)
        await self._s3.put(key, content, JSON_TYPE)
        return f"s3://{self._s3.bucket}/{key}"
