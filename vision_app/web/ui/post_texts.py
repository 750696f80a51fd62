"""The words for what the API answers about posts, in English: states, reasons, stages, and what a replay does."""

from __future__ import annotations

STATUS_TEXTS = {
    "ok": ("good", "analyzed"),
    "partial": ("warn", "partly analyzed"),
    "skipped": ("", "skipped"),
    "deferred": ("warn", "deferred"),
    "in_work": ("", "in work now"),
    "error": ("bad", "failed"),
    "analyzed": ("good", "analyzed"),
    "failed": ("bad", "failed"),
}
"""Status of a post or of a medium → kind of its badge, its text."""

CAUSE_TEXTS = {
    "in_work": ("It is being looked at now.", ""),
    "deferred": (
        "Deferred: its tenant's money of the day is spent.",
        "It goes on by itself on the new day, or at once if the limit is raised or the spending reset.",
    ),
    "tenant_paused": ("Its tenant is paused.", "Resume the tenant."),
    "provider_away": ("GigaChat does not answer.", "It goes on by itself when GigaChat answers."),
    "store_away": ("A service does not answer.", "It goes on by itself when the service answers; see Health."),
    "feature_off": (
        "Image analysis is switched off: FEATURE_VISION_ENABLED is false.",
        "Set FEATURE_VISION_ENABLED=true and restart the worker.",
    ),
    "policy": ("A rule of the policy skips it.", "Change the rule in the policy file, then publish the post again."),
    "object_missing": (
        "The picture is not in the bucket, or may not be read.",
        "Upload it (`vision upload`), then publish the post again.",
    ),
    "dead_letter": (
        "Its message could not be handled and is among the dead letters.",
        "Look at the dead letter, then replay or discard it.",
    ),
    "undecodable": ("The file cannot be used as a picture.", "Publish it again as JPEG or PNG."),
    "refused": ("GigaChat refuses to look at this picture.", ""),
    "budget": (
        "It waited for money, and its place in the queue was given up or the queue was full.",
        "Publish the post again when the tenant has money.",
    ),
    "other": ("It has no result.", ""),
}
"""Why a medium has no result → the sentence, and what to do."""

STAGE_TEXTS = {
    "way_in": "way in",
    "policy": "policy",
    "posts": "opening",
    "preflight": "look-up",
    "ledger": "budget asked again",
    "budget": "wait for money or a slot",
    "call": "decoding and turn",
    "answer": "GigaChat",
    "collect": "way back",
    "complete": "completion",
    "store": "storing",
    "other": "other",
}

EFFECT_TEXTS = {
    "free": ("good", "free: its stored answer is used"),
    "asked": ("", "it is asked about"),
    "paid_again": ("warn", "it is asked about and paid again"),
    "no_object": ("", "free: there is no object, it is skipped"),
}
"""What a replay does with a picture → kind of its badge, its text."""

PLACE_TEXTS = {
    "look_up": "its stored answer and its object are looked up",
    "parked": "it waits for its tenant's money or a slot",
    "granted": "it may be asked about and waits for a worker",
    "decoding": "it is read and decoded",
    "turn": "it waits for its turn at GigaChat",
    "call": "GigaChat is being asked",
    "between": "on its way between two stages",
    "ended": "it has ended",
}
"""Where a picture is now → the words."""
