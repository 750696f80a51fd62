"""vision_app: looks at every picture posted to a Telegram channel and tells the rest of an assistant what is on it."""

import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

__version__ = "0.1.0"

TOP_LEVEL = ("agents", "tables", "bridges")
"""Packages of this project beside `vision_app`. Other projects use these names, too."""


def foreign_packages() -> Iterator[str]:
    """Of TOP_LEVEL, each package that belongs to another project here, with its place."""
    for name in TOP_LEVEL:
        spec = find_spec(name)
        origin = spec.origin if spec is not None else None
        if origin is None or "vision_app" not in Path(origin).read_text("utf-8"):
            yield f"{name} ({origin or 'not found'})"


if _foreign := list(foreign_packages()):
    warnings.warn(
        f"vision_app brings the packages {', '.join(TOP_LEVEL)}, but other ones of these names are imported here: "
        f"{', '.join(_foreign)}. Install vision_app into a virtual environment of its own",
        RuntimeWarning,
        stacklevel=2,
    )
