"""The instructions given to the model, one text file per kind of medium, and the version that names them all.

Changing any text means raising `PROMPT_VERSION`: it is part of the cache key, of every answer and of `VISION_VERSION`.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

PROMPT_VERSION = "p1"
VISION_VERSION = f"vision@2026-11-22#{PROMPT_VERSION}"
PROMPT_KEYS = ("default", "photo", "screenshot", "document")


@cache
def prompt(key: str) -> str:
    """The Russian instruction for `key`: what is particular to the kind, then the common contract of the answer.

    An unknown key (a policy may name any) gets the default one.
    """
    folder = resources.files(__name__)
    kind = (folder / f"{key if key in PROMPT_KEYS else 'default'}.txt").read_text("utf-8")
    return f"{kind.strip()}\n\n{(folder / 'contract.txt').read_text('utf-8').strip()}"
