"""Make docs/reference/settings.md from vision_app/settings.py: `make reference`, after a change of a setting.

Names, types and defaults come from the model. Groups and descriptions come from its source: if pydantic read them, it
would do so at every start. A secret's default is never shown.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from vision_app import settings
from vision_app.settings import OBSOLETE, Settings, variables

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "settings.md"
HEAD = """# Settings

Every setting of the worker and of the commands. Made from `vision_app/settings.py` by `make reference`; a test compares
this page with it.

A setting is read from the environment, else from the file `.env`, else from `.vision/env` (written by the embedded
stack), else it has the default below. An empty value counts as none. `vision config` shows the values in force and
where each comes from. A wrong value ends the program at its start with one line for each fault. A change needs a
restart; only the policy file is read again while the worker runs.

In sizes, GB and MB are GiB and MiB. Defaults of secrets are not shown. A secret may also come from a file: instead of
`KAFKA_SASL_PASSWORD`, for example, set `KAFKA_SASL_PASSWORD_FILE` to the path of a file that holds it, as Docker and
Kubernetes mount secrets.
"""
OTHERS = """
## Not settings

These are read from the environment only.

| variable | what it does |
|---|---|
| `VISION_HOME` | The folder of the embedded stack. Default: `.vision` in the current folder. |
| `VISION_LANG` | Language of the `vision` command: `ru` or `en`. Default: `LC_ALL`, `LC_MESSAGES` or `LANG`. |
| `VISION_CACHE` | The folder of downloaded jars. Default: `~/.cache/vision_app`. |
| `VISION_PORTS` | The ports that embedded services may listen on. Default: `20000-31999`. |
| `VISION_MAVEN_URL` | A Maven mirror for the jars. |
| `VISION_WORKER_ID` | The name of this worker, the same after a restart. Default: host name and API port. |

## Without effect

Variables of the assistant that this service does not read. `vision config` names those that are set.

| variable | why |
|---|---|
"""
UNITS = {
    "seconds": "seconds",
    "ms": "milliseconds",
    "minutes": "minutes",
    "hours": "hours",
    "days": "days",
    "gb": "GiB",
    "mb": "MiB",
    "bytes": "bytes",
    "tokens": "tokens",
    "second": "per second",
}
"""Last word of a name → unit. If the name has none, the description names the unit."""
BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
NAMES = {bool: "true, false", int: "integer", float: "number", str: "text", SecretStr: "secret", Path: "path"}


def page() -> str:
    """The whole page."""
    described = dict(descriptions())
    groups: dict[str, list[str]] = {}
    for name, field in Settings.model_fields.items():
        group, text = described[name]
        groups.setdefault(group, []).append(_row(name, field, text))
    head = "| variable | type | default | what it does |\n|---|---|---|---|\n"
    tables = "".join(f"\n## {group}\n\n{head}{''.join(rows)}" for group, rows in groups.items())
    return HEAD + tables + OTHERS + "".join(f"| `{name}` | {reason} |\n" for name, reason in OBSOLETE.items())


def descriptions() -> Iterator[tuple[str, tuple[str, str]]]:
    """For each field its group (the last `# ---` above it) and the text below it."""
    lines = inspect.getsource(settings).splitlines()
    classes = (node for node in ast.parse("\n".join(lines)).body if isinstance(node, ast.ClassDef))
    (model,) = (node for node in classes if node.name == Settings.__name__)
    for node, following in zip(model.body, model.body[1:], strict=False):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            above = (line.strip() for line in reversed(lines[: node.lineno]))
            group = next(line.removeprefix("# --- ") for line in above if line.startswith("# --- "))
            below = following.value if isinstance(following, ast.Expr) else None
            text = str(below.value) if isinstance(below, ast.Constant) else ""
            yield node.target.id, (group[0].upper() + group[1:], " ".join(text.split()))


def _row(name: str, field: FieldInfo, text: str) -> str:
    first, *older = (variable.upper() for variable in variables(name))
    also = f" Also read from {', '.join(f'`{variable}`' for variable in older)}." if older else ""
    described = re.sub(r"(?<![`\w])([A-Z][A-Z0-9]*_[A-Z0-9_]+)", r"`\1`", text)
    cells = (f"`{first}`", _type(name, field), _default(field), described + also)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _type(name: str, field: FieldInfo) -> str:
    annotation: Any = field.annotation
    kinds = [kind for kind in get_args(annotation) or (annotation,) if kind is not NoneType]
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    bounds = [
        f"{sign} {getattr(limit, bound):g}"
        for limit in field.metadata
        for bound, sign in BOUNDS.items()
        if getattr(limit, bound, None) is not None
    ]
    unit = UNITS.get(name.rpartition("_")[2], "") if kinds[0] in (int, float) else ""
    return ", ".join(filter(None, [" ".join([NAMES[kinds[0]], *bounds]), unit]))


def _default(field: FieldInfo) -> str:
    if field.annotation is SecretStr:
        return ""
    value = field.default
    if value is PydanticUndefined:
        value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
