"""Entries of the input stream, broken in every way a producer might break them: endless, and the same for one seed.

A generator of our own rather than Hypothesis, since a hundred thousand inputs have to be made in a minute.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from tests.samples import WIRE_EVENT

Fields = dict[bytes, bytes]

SHA = "4e5b10df" * 8
EVENT: dict[str, Any] = {
    **WIRE_EVENT,
    "media_files": [
        {"sha256": SHA, "s3_key": "media/t/4e.png", "mime_type": "image/png", "size_bytes": 67, "position": 0},
        {"sha256": SHA[::-1], "s3_key": "media/t/fd.jpg", "mime_type": "image/jpeg", "size_bytes": 1 << 20},
    ],
    "extra": {"album": [1, 2, {"three": None}]},
}
_TEXTS = (
    *("", " ", "\0", "a\0b", "\n", "p" * 257, "п" * 300, "\u202egnp.exe", "\ufeff", "\ufffd", "💥", "\u2028", "\ud800"),
    *("../../etc/passwd", "*", "*}", "a:b", "%00", "$(id)", "'; DROP TABLE post_enrichment; --", "{{7*7}}", "\x1b[31m"),
    *('{"a":1}', "[1]", "{", "null", "true", "1.0", "2.0", "NaN", "1e999", "0x10", "٣", "²", "-0", "9" * 400),
    *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-13-45", "253402300800", "18446744073709551616"),
)
_NUMBERS = (0, -1, 1, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 2**64, 10**30, 1e308, -1e-320, 0.1, 1.5)


def entries(seed: int, count: int) -> Iterator[Fields]:
    """`count` entries, the same for the same seed."""
    dice = random.Random(seed)
    return (_entry(dice) for _ in range(count))


def _entry(dice: random.Random) -> Fields:
    event = json.loads(json.dumps(EVENT))
    for _ in range(dice.choice((0, 1, 1, 1, 2, 3, 8))):
        _mutate(dice, event)
    fields = dice.choice(_SHAPES)(event, dice)
    if dice.random() < 0.3:
        fields = _mangled(dice, fields)
    return fields or {b"": b""}


# --- values -----------------------------------------------------------------------------------------------------------


def _value(dice: random.Random, depth: int = 0) -> Any:
    kind = dice.randrange(8 if depth < 3 else 5)
    if kind == 0:
        return dice.choice((None, True, False))
    if kind == 1:
        return dice.choice(_NUMBERS)
    if kind < 5:
        return dice.choice(_TEXTS)
    if kind == 5:
        return [_value(dice, depth + 1) for _ in range(dice.randrange(4))]
    if kind == 6:
        return {str(dice.choice([*EVENT, *_TEXTS])): _value(dice, depth + 1) for _ in range(dice.randrange(4))}
    return _rare(dice)


def _rare(dice: random.Random) -> Any:
    """Deep or large, hence seldom."""
    kind = dice.randrange(40)
    if kind == 0:
        return "x" * 200_000
    if kind == 1:
        return [dict(EVENT["media_files"][0]) for _ in range(2000)]
    if kind < 12:
        nested: Any = 1
        for _ in range(dice.choice((30, 120, 200, 250, 300, 800))):
            nested = [nested] if kind % 2 else {"a": nested}
        return nested
    return dice.choice(_TEXTS)


def _mutate(dice: random.Random, event: dict[str, Any]) -> None:
    """Change one place, at the top or in one of the media."""
    media = event.get("media_files")
    inside = isinstance(media, list) and media and isinstance(media[0], dict) and dice.random() < 0.4
    place: dict[str, Any] = dice.choice([item for item in media if isinstance(item, dict)]) if inside else event  # type: ignore[union-attr]  # `inside` says that there are media
    if not place:
        return
    name = dice.choice(list(place))
    change = dice.randrange(6)
    if change == 0:
        del place[name]
    elif change == 1:
        place[dice.choice(("media", "Tenant_ID", "post_id ", "schema", name.upper(), *_TEXTS))] = place.pop(name)
    elif change == 2:
        place[name] = json.dumps(place[name])
    elif change == 3:
        place[dice.choice(("timestamp", "media", "x", "source_stream", "source_entry_id", "key"))] = _value(dice)
    else:
        place[name] = _value(dice)


# --- shapes -----------------------------------------------------------------------------------------------------------


def _dumped(event: Any, dice: random.Random) -> bytes:
    text = json.dumps(event, ensure_ascii=dice.random() < 0.5)
    return text.encode("utf-8", "surrogatepass" if dice.random() < 0.5 else "replace")


def _with_event(event: Any, dice: random.Random) -> Fields:
    return {b"event": b"posts.vision.uploaded", b"data": _dumped(event, dice)}


def _data_only(event: Any, dice: random.Random) -> Fields:
    return {b"data": _dumped(event, dice)}


def _payload(event: Any, dice: random.Random) -> Fields:
    return {b"payload": _dumped(event, dice), b"priority": b"low", b"retry_count": b"1"}


def _per_key(event: Any, dice: random.Random) -> Fields:
    return {
        name.encode("utf-8", "replace"): value.encode("utf-8", "replace")
        if isinstance(value, str)
        else _dumped(value, dice)
        for name, value in event.items()
    }


_SHAPES: tuple[Callable[[Any, random.Random], Fields], ...] = (_with_event, _data_only, _payload, _per_key)


# --- bytes ------------------------------------------------------------------------------------------------------------


def _mangled(dice: random.Random, fields: Fields) -> Fields:
    name = dice.choice(list(fields))
    value = fields[name]
    change = dice.randrange(9)
    if change == 0:
        return {key: value for key, value in fields.items() if key != name}
    if change == 1:
        return {**fields, dice.choice((b"data", b"payload", b"event", b"\xff\xfe", b"event_type")): dice.randbytes(8)}
    if change == 2:
        return {(name + dice.randbytes(1)): value}
    at = dice.randrange(len(value) + 1)
    changed = {
        3: value[:at],
        4: value[:at] + dice.randbytes(dice.randrange(1, 4)) + value[at:],
        5: value[:at] + dice.choice((b"\xff", b"\0", b"\xed\xa0\x80", b"NaN", b"\\ud800", b'"')) + value[at + 1 :],
        6: b"\xef\xbb\xbf" + value,
        7: value.decode("utf-8", "replace").encode("utf-16"),
        8: b"[" * dice.choice((10, 5000)) + value,
    }
    return {**fields, name: changed[change]}
