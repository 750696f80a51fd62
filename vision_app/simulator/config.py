"""The simulator's settings. Sizes and limits come from the vendor's OpenAPI document unless marked `ours`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SCOPES = ("GIGACHAT_API_PERS", "GIGACHAT_API_B2B", "GIGACHAT_API_CORP")

IMAGE_MAX_BYTES = 15_000_000
AUDIO_MAX_BYTES = 35_000_000
DOCUMENT_MAX_BYTES = 40_000_000
REQUEST_ATTACHMENTS_MAX_BYTES = 80_000_000
IMAGES_PER_MESSAGE = 1
IMAGES_PER_REQUEST = 10
CONTEXT_TOKENS = 128_000

JSON_BODY_MAX_BYTES = 8 * 1024 * 1024  # ours: no source gives a limit for the JSON body
MULTIPART_OVERHEAD_BYTES = 64 * 1024  # ours: boundaries and part headers around one file
STORED_FILES_MAX_BYTES = 512 * 1024 * 1024  # ours: files live in memory


@dataclass(slots=True)
class SimulatorConfig:
    """Settings of one simulator. `streams`, `token_ttl_seconds` and `retry_after_seconds` may change while it runs."""

    streams: int = 10  # requests in flight per client: 1 for PERS, 10 by default for B2B and CORP
    token_ttl_seconds: float = 1800.0
    oauth_per_second: int = 10
    retry_after_seconds: float | None = None  # the vendor is not known to send Retry-After, so none by default
    require_user_agent: bool = True
    client_id: str | None = None  # with client_secret: a pair that is accepted; without any, every pair is
    client_secret: str | None = None
    accounts: tuple[tuple[str, str], ...] = ()  # further pairs of client id and secret that are accepted
    home: Path | None = None  # the bill is kept here and survives a restart; None keeps it in memory
    max_pixels: int = 50_000_000  # ours: a decoded picture larger than this is refused
