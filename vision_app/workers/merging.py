"""Makes one page of metrics out of several, in the text format of Prometheus. Pure.

Each sample gets the label `process`. So one page is what several scraped workers are, where `instance` tells them
apart: rules and dashboards that join workers by sum or max join processes, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

LABEL = "process"
_COMMENTS = ("# HELP ", "# TYPE ")


@dataclass
class _Family:
    head: dict[str, str] = field(default_factory=dict)  # `# HELP ` and `# TYPE ` → the line
    samples: list[str] = field(default_factory=list)


def merge(pages: Mapping[str, str]) -> str:
    """One page. `pages`: by process. A family stands once, with the samples of all processes."""
    families: dict[str, _Family] = {}
    for process, page in pages.items():
        label = f'{LABEL}="{_escaped(process)}"'
        family = families.setdefault("", _Family())
        for line in page.splitlines():
            kind = next((one for one in _COMMENTS if line.startswith(one)), None)
            if kind is not None:
                family = families.setdefault(line.removeprefix(kind).partition(" ")[0], _Family())
                family.head.setdefault(kind, line)
            elif line and not line.startswith("#"):
                family.samples.append(_labelled(line, label))
    lines = [line for one in families.values() for line in (*one.head.values(), *one.samples)]
    return "".join(f"{line}\n" for line in lines)


def _labelled(sample: str, label: str) -> str:
    """The sample with one label more. A sample that has this label already keeps its own."""
    name, brace, rest = sample.partition("{")
    if brace and " " not in name:
        if rest.startswith(f'{LABEL}="') or f'",{LABEL}="' in rest:  # within a value a quote has a backslash before it
            return sample
        return f"{name}{{{label}{rest if rest.startswith('}') else f',{rest}'}"
    name, _, value = sample.partition(" ")
    return f"{name}{{{label}}} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
