"""Entries of the input stream for the fuzzer: every field of every shape, with sizes from nothing to 3 MB.

Half come from `event_mutations.py`, broken in every way a producer might break them. Half are made here: one field of a
sound event replaced by something large, a list of thousands of media, an id full of separators, a time that is none,
or JSON that readers disagree about. The same for one seed.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tests import event_mutations
from tests.event_mutations import Fields
from vision_app.events import UPLOADED_EVENT
from vision_app.messages import Medium
from vision_app.operations.neighbours import uploaded_event

SIZES = (0, 1, 64, 255, 256, 257, 511, 512, 513, 1_023, 1_025, 2_049, 8_000, 65_536, 262_144)
LARGE_SIZES = (1_000_000, 1_048_577, 2_200_000, 3_000_000)
LARGE_SHARE = 0.02  # 10,000 events with more of them would take gigabytes of Redis
SEPARATORS = (
    ":",
    "|",
    "%",
    "/",
    "\\",
    "*",
    "?",
    "{",
    "}",
    "\0",
    "\n",
    "\x1b[2J",
    "\u202e",
    "\u2028",
    "..",
    "-0-0",
    "%3A",
)
TIMES = (
    *(
        "2026-11-22T12:00:00+16:00",
        "2026-11-22T12:00:00-23:59",
        "9999-12-31T23:59:59-12:00",
        "0001-01-01T00:00:00+14:00",
    ),
    *(
        "2026-02-30T00:00:00Z",
        "1764763200",
        "-1",
        "253402300800000",
        "now",
        "",
        "2026-11-22",
        "12:00",
        None,
        True,
        1e300,
    ),
)
LISTS: tuple[Any, ...] = (
    None,
    {},
    "",
    "[]",
    0,
    [None],
    [[]],
    ["a"],
    [{}],
    [{"sha256": None}],
    {"0": {}},
    [1, "x", None],
)


def entries(seed: int, count: int, media: Sequence[Medium], run: str) -> Iterator[Fields]:
    """`count` entries. `media` are pictures of the tenant `hostile-{run}` that are there: some of this costs money."""
    dice = random.Random(seed)
    broken = event_mutations.entries(seed, count)
    for number, fields in enumerate(broken):
        if dice.random() < 0.5:
            yield fields
            continue
        listed = (
            list(media) if dice.random() < 0.2 else [Medium(sha256=f"{number:064x}", s3_key=f"media/x/{number}.jpg")]
        )
        event = uploaded_event(f"hostile-{run}", f"hostile-{run}-{number}", listed, f"t-hostile-{run}-{number}")
        yield dice.choice(CHANGES)(dice, event)


def _wrapped(event: Any) -> Fields:
    data = event if isinstance(event, bytes) else json.dumps(event, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return {b"event": UPLOADED_EVENT.encode(), b"data": data}


def _filler(dice: random.Random) -> str:
    size = dice.choice(LARGE_SIZES if dice.random() < LARGE_SHARE else SIZES)
    return dice.choice(("x", "я", "\U0001f4a5", "\\", '"', "\0", "a:")) * size


def _long_field(dice: random.Random, event: dict[str, Any]) -> Fields:
    place = dice.choice([event, event["media_files"][0]])
    place[dice.choice([*place, "extra"])] = _filler(dice)
    return _wrapped(event)


def _long_name(dice: random.Random, event: dict[str, Any]) -> Fields:
    event[_filler(dice) or "x"] = 1
    return _wrapped(event)


def _separators(dice: random.Random, event: dict[str, Any]) -> Fields:
    name = dice.choice(("tenant_id", "post_id", "trace_id", "channel_id", "idempotency_key"))
    event[name] = "".join(dice.choices([*SEPARATORS, "a", "ж"], k=dice.randrange(1, 40)))
    return _wrapped(event)


def _time(dice: random.Random, event: dict[str, Any]) -> Fields:
    event[dice.choice(("occurred_at", "uploaded_at", "timestamp"))] = dice.choice(TIMES)
    return _wrapped(event)


def _media(dice: random.Random, event: dict[str, Any]) -> Fields:
    if dice.random() < 0.5:
        event["media_files"] = dice.choice(LISTS)
    else:
        event["media_files"] *= dice.choice((2, 99, 100, 101, 1_000, 5_000))
        if dice.random() < 0.5:
            event["media_files"] = [
                {**medium, "sha256": f"{number:064x}"} for number, medium in enumerate(event["media_files"])
            ]
    return _wrapped(event)


def _odd_json(dice: random.Random, event: dict[str, Any]) -> Fields:
    text = json.dumps(event)
    odd = (
        text[:-1] + ', "tenant_id": "other"}',  # a name twice
        text.replace('"1.0"', "NaN", 1),
        text.replace('"1.0"', "1e999", 1),
        text.replace('"1.0"', "-0", 1),
        text.replace('"1.0"', str(10**400), 1),
        text + text,
        text + "\0",
        text.replace(", ", ",\n\n\t", 5),
        text[:-1] + ",}",
        "/* */" + text,
        text.replace("a", "\\u0061"),
        text.replace('"producer"', '"\\ud800"', 1),
        json.dumps(text),
        json.dumps([event]),
        '{"data": ' + text + "}",
        "null",
        "[" * dice.choice((60, 70, 1_000, 100_000)),
    )
    return _wrapped(dice.choice(odd).encode("utf-8", "surrogatepass"))


def _odd_bytes(dice: random.Random, event: dict[str, Any]) -> Fields:
    data = json.dumps(event).encode()
    return _wrapped(
        dice.choice(
            (
                data.decode().encode("utf-16"),
                b"\xef\xbb\xbf" + data,
                dice.randbytes(200),
                data[:-7],
                b"",
                b"\x1f\x8b" + data,
            )
        )
    )


def _entry_fields(dice: random.Random, event: dict[str, Any]) -> Fields:
    fields = _wrapped(event)
    fields[dice.choice((b"event", b"event_type", b"trace_id", b"x" * 70_000, b"\xff", b""))] = _filler(dice).encode()
    return fields


def _sound(_: random.Random, event: dict[str, Any]) -> Fields:
    return _wrapped(event)


CHANGES: tuple[Callable[[random.Random, dict[str, Any]], Fields], ...] = (
    *(_long_field, _long_field, _long_field, _long_name, _separators, _separators, _time, _media, _media),
    *(_odd_json, _odd_json, _odd_bytes, _entry_fields, _sound),
)
