"""docs/reference/licences.md names every locked package whose licence is not one of the usual permissive ones."""

from __future__ import annotations

import re
from email.message import Message
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import cast

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "licences.md").read_text("utf-8")
ELSEWHERE = {"colorama"}
"""Locked for Windows only, and installed nowhere here: BSD."""
PERMISSIVE = re.compile(
    r"\b(MIT|BSD|Apache|PSF|PSFL|Python-2\.0|Python Software Foundation|ISC|Repoze)\b", re.IGNORECASE
)
OTHER = re.compile(r"MPL|Mozilla|GPL|GNU|Unlicense|CDDL|EPL|Eclipse|Proprietary|Commercial", re.IGNORECASE)


def names(lock: str) -> set[str]:
    return set(re.findall(r"^([\w.-]+)==", (ROOT / lock).read_text("utf-8"), re.MULTILINE)) - ELSEWHERE


def licence(name: str) -> str:
    """What the package's metadata say: the expression, or else the first line of the field, and the classifiers."""
    found = cast(Message, metadata(name))
    if expression := found.get("License-Expression"):
        return expression
    classifiers = [each for each in found.get_all("Classifier") or [] if each.startswith("License ::")]
    return " ".join([(found.get("License") or "").partition("\n")[0], *classifiers])


@pytest.mark.parametrize(
    "lock", ["requirements-run.lock", "requirements-otel.lock", "requirements-demo.lock", "requirements.lock"]
)
def test_the_page_names_every_package_with_another_licence(lock: str) -> None:
    other = set()
    for name in names(lock):
        try:
            text = licence(name)
        except PackageNotFoundError:
            continue  # of another platform or Python
        if OTHER.search(text) or not PERMISSIVE.search(text):
            other.add(name)
    (row,) = re.findall(rf"^\| `{re.escape(lock)}` \| [^|]+ \| (\d+) \| ([^|]+) \|$", PAGE, re.MULTILINE)
    assert other == set(row[1].strip().split(", "))
    assert len(names(lock) | ELSEWHERE) == int(row[0])


def test_the_wheel_says_which_licence_it_has() -> None:
    assert (ROOT / "LICENSE").read_text("utf-8").startswith("MIT License\n")
    assert licence("vision-app") == "MIT"
