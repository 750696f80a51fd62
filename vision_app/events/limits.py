"""Sizes within which an event is taken. Announcements keep to the same sizes."""

MAX_TRACE_CHARS = 512
MAX_MEDIA = 100
"""Most media of one event; an album of Telegram has ten."""
LIMITS = {
    "tenant_id": 256,
    "post_id": 256,
    "trace_id": MAX_TRACE_CHARS,
    "idempotency_key": 1024,
    "channel_id": 256,
    "source_stream": 256,
    "source_entry_id": 256,
}
"""Most characters of an event's fields that become keys, headers, log fields or indexed columns."""
MEDIUM_LIMITS = {
    "sha256": 128,
    "s3_key": 2048,
    "mime_type": 256,
    "telegram_file_id": 512,
    "role": 64,
}
"""The same for each medium. S3 takes keys of 1,024 bytes. A longer key within this limit is skipped as missing."""
MAX_DEPTH = 64
"""Most levels of lists and objects. Not all later JSON encoders can write deeper ones."""
