"""The names of all S3 objects: what the acceptance guide and the surrounding assistant expect, safe for any identity.

Identities come from outside. Each becomes part of exactly one path segment: percent-encoded, without leading, trailing
or doubled dots, and bounded in length (file systems behind S3 allow 255 bytes a segment). Distinct identities get
distinct keys. The owner of an object's data is never read from its key. Only the account to which its size is counted
is read from it.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple
from urllib.parse import quote, unquote

from vision_app.domain.storage import Kind
from vision_app.messages import Provider

ANSWER_SCHEMA = "v1.0"

MEDIA_PREFIX = "media/"
VISION_PREFIX = "vision/"
CRAWL_PREFIX = "crawl/"
ALBUM_PREFIX = "album/"
DEAD_LETTER_PREFIX = "dead-letters/"

MAX_SEGMENT_BYTES = 150
MAX_NAME_PART_BYTES = 64  # three of them share one segment in an answer's name; a SHA-256 in hex fits

_EXTENSIONS = {
    "image/jpeg": "jpg",
    "image/jpg": "jpg",
    "image/png": "png",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/tiff": "tiff",
    "image/bmp": "bmp",
    "application/pdf": "pdf",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "text/plain": "txt",
    "application/epub+zip": "epub",
    "video/mp4": "mp4",
    "audio/mpeg": "mp3",
    "audio/wav": "wav",
}

_UNSAFE_DOT = re.compile(r"^\.|\.$|\.(?=\.)|(?<=\.)\.")


def media_key(tenant_id: str, sha256: str, mime_type: str) -> str:
    """Where a producer puts a medium: `media/{tenant}/{sha[:2]}/{sha}.{ext}`; an unknown type gets `bin`."""
    extension = _EXTENSIONS.get(mime_type.lower(), "bin")
    return f"{MEDIA_PREFIX}{segment(tenant_id)}/{segment(sha256[:2])}/{segment(sha256)}.{extension}"


def answer_key(tenant_id: str, sha256: str, provider: Provider, model: str, prompt_version: str) -> str:
    """Where the answer about one medium is kept: one per tenant, medium, provider, model and prompt version."""
    name = f"{_name_part(sha256)}_{provider}_{_name_part(model)}_{ANSWER_SCHEMA}_{_name_part(prompt_version)}"
    return f"{VISION_PREFIX}{segment(tenant_id)}/{name}.json"


def call_key(tenant_id: str, grant_id: str) -> str:
    """Where the record of a paid call is: that it was started, and how it ended."""
    return f"{VISION_PREFIX}{segment(tenant_id)}/.calls/{segment(grant_id)}.json"


def post_key(tenant_id: str, post_id: str) -> str:
    """Where the document of a finished post is kept."""
    return f"{VISION_PREFIX}{segment(tenant_id)}/posts/{segment(post_id)}.json"


def dead_letter_key(letter_id: str) -> str:
    """Where the whole dead letter is kept if it was too large for Kafka. No clean-up deletes it."""
    return f"{DEAD_LETTER_PREFIX}{segment(letter_id)}.json"


class KeyParts(NamedTuple):
    """What an object is and to which account it counts. `subject`: the common prefix of all answers about a medium."""

    kind: Kind
    account: str
    subject: str = ""


NO_ACCOUNT = ""
"""The account of objects whose key names no tenant. No tenant has an empty name."""

_KINDS: dict[str, Kind] = {MEDIA_PREFIX: "media", CRAWL_PREFIX: "crawl", ALBUM_PREFIX: "album"}


def parse_key(key: str) -> KeyParts:
    """The place of any key, including keys of older layouts (double dots, other folders) and keys without a tenant."""
    top, _, below = key.partition("/")
    owner, slash, rest = below.partition("/")
    account = _account(owner) if slash else NO_ACCOUNT
    if kind := _KINDS.get(f"{top}/"):
        return KeyParts(kind, account)
    if f"{top}/" != VISION_PREFIX:
        return KeyParts("other", NO_ACCOUNT)
    if rest.startswith((".calls/", "posts/")):
        return KeyParts("call" if rest.startswith(".") else "document", account)
    medium, _, _ = rest.partition("_")
    return KeyParts("answer", account, f"{VISION_PREFIX}{owner}/{medium}_")


def account_of(tenant_id: str) -> str:
    """The name under which a tenant's room is counted: its own, or the digest in its keys if they have only that."""
    return _account(segment(tenant_id))


def answers_about(tenant_id: str, sha256: str) -> str:
    """The `subject` of all answers about a tenant's medium."""
    return f"{VISION_PREFIX}{segment(tenant_id)}/{_name_part(sha256)}_"


def _account(owner: str) -> str:
    try:
        name = unquote(owner, errors="strict")
    except UnicodeDecodeError:
        return owner
    return name if "\0" not in name else owner


def segment(text: str) -> str:
    """One path segment for any text: the text itself if it is safe, else percent-encoded, or its digest if too long."""
    return _bounded(text, _encoded(text), MAX_SEGMENT_BYTES)


def _name_part(text: str) -> str:
    """A part of a name whose parts are joined by underscores. The part itself has no underscore."""
    return _bounded(text, _encoded(text).replace("_", "%5F"), MAX_NAME_PART_BYTES)


def _encoded(text: str) -> str:
    return _UNSAFE_DOT.sub("%2E", quote(text, safe="", errors="surrogatepass"))


def _bounded(text: str, encoded: str, max_bytes: int) -> str:
    if encoded and len(encoded) <= max_bytes:
        return encoded
    # the encoding never produces "=", so a digest cannot be mistaken for a name
    return "sha256=" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
