"""Turns the text of a policy file into a `Policy`, or into one line per fault with file, line and key.

Pure: takes text, not a path (`stores/policy_file.py` reads files).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from vision_app.domain.policy_model import Policy

Path = tuple[str, ...]
Fault = tuple[int, str, str]  # line, key, what is wrong


MAX_BYTES = 64 * 1024
"""Limit of a policy file; the shipped one has 4 kB. Parsing this size takes half a second, between two events."""
MAX_VALUES = 10_000
"""Most keys and values of a policy. Aliases are counted expanded: ten lines with aliases can stand for billions."""
TOO_MANY = 10**9
MAX_FAULTS = 50
"""Most faults reported; a file with more is probably not a policy."""


class PolicyError(Exception):
    """The policy file cannot be used. Correct the lines named below; `vision policy check FILE` checks again."""


def load_policy(text: str, source: str) -> Policy:
    """Read a policy. `source` names it in messages.

    Raises PolicyError whose text has one line per fault: `source:line: key: what is wrong`.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise PolicyError(too_large(source))
    data, lines, faults = _parse(text)
    count = len(faults)
    if not faults:
        try:
            policy = Policy.model_validate(data)
        except ValidationError as invalid:
            errors = invalid.errors(include_url=False)
            count, faults = len(errors), [_fault(error, lines) for error in errors[:MAX_FAULTS]]
        else:
            return policy
    told = [_line(source, fault) for fault in sorted(faults)[:MAX_FAULTS]]
    more = [f"{source}: and {count - MAX_FAULTS} more faults; correct these first"] if count > MAX_FAULTS else []
    raise PolicyError("\n".join([*told, *more]))


def too_large(source: str) -> str:
    """The error text for a file that is too large to be read."""
    return f"{source}: is larger than {MAX_BYTES} bytes; a policy of that size is no policy: shorten its lists"


def _line(source: str, fault: Fault) -> str:
    line, key, wrong = fault
    return f"{source}:{line}: {key}: {wrong}" if key else f"{source}:{line}: {wrong}"


# --- YAML -------------------------------------------------------------------------------------------------------------


def _parse(text: str) -> tuple[Any, Mapping[Path, int], list[Fault]]:
    """The file's data, the line of every key, and the faults of its YAML."""
    lines: dict[Path, int] = {(): 1}
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            what = "the file is empty" if root is None else "the file is not a mapping of keys"
            return None, lines, [(1, "", f"{what}; it needs at least allowed_mime_types")]
        counts: dict[int, int] = {}
        if _expanded(root, counts, set()) > MAX_VALUES:
            key, _ = max(root.value, key=lambda pair: counts[id(pair[1])])
            text = f"more than {MAX_VALUES} values when its aliases (*name) are written out; use fewer, or none"
            return None, lines, [(key.start_mark.line + 1, str(key.value), text)]
        faults = list(_walk(root, (), lines))
        return loader.construct_document(root), lines, faults
    except (yaml.YAMLError, ValueError, RecursionError) as broken:
        return None, lines, [_syntax_fault(broken, text)]


def _expanded(node: yaml.Node, known: dict[int, int], above: set[int]) -> int:
    """Number of nodes with every alias expanded, at most TOO_MANY. A node that contains itself counts as TOO_MANY."""
    if id(node) in above:
        return TOO_MANY
    if id(node) not in known:
        above.add(id(node))
        children: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        known[id(node)] = min(TOO_MANY, 1 + sum(_expanded(child, known, above) for child in children))
        above.discard(id(node))
    return known[id(node)]


def _walk(node: yaml.Node, path: Path, lines: dict[Path, int]) -> Iterator[Fault]:
    """Note the lines of all keys and items below `node`. Yields duplicate keys; YAML would keep only the last."""
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _enter(item, item, (*path, str(index)), lines)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            below = (*path, str(key.value))
            if below in lines:
                yield key.start_mark.line + 1, ".".join(below), f"given twice, first in line {lines[below]}"
            else:
                yield from _enter(key, value, below, lines)


def _enter(at: yaml.Node, node: yaml.Node, path: Path, lines: dict[Path, int]) -> Iterator[Fault]:
    lines[path] = at.start_mark.line + 1
    if len(path) < 10:  # a policy is not deeper, and an alias may point to its own parent
        yield from _walk(node, path, lines)


def _syntax_fault(broken: Exception, text: str) -> Fault:
    if isinstance(broken, yaml.MarkedYAMLError) and (mark := broken.problem_mark or broken.context_mark):
        since = broken.context_mark
        opened = f"{broken.context} (line {since.line + 1}), " if broken.context and since else ""
        return mark.line + 1, "", f"not YAML: {opened}{broken.problem} (column {mark.column + 1})"
    if isinstance(broken, yaml.reader.ReaderError):
        return text.count("\n", 0, broken.position) + 1, "", f"not YAML: {broken.reason}"
    return 1, "", f"not YAML: {broken}"


# --- the model's complaints -------------------------------------------------------------------------------------------


def _fault(error: Any, lines: Mapping[Path, int]) -> Fault:
    path = _written(error["loc"], lines)
    key = ".".join(path)
    if error["type"] == "missing":
        missing = str(error["loc"][-1])
        return lines[path], f"{key}.{missing}".lstrip("."), "is missing"
    if error["type"] == "extra_forbidden":
        return lines[path], key, f"unknown key{_suggestion(path[-1])}"
    wrong = error["msg"].removeprefix("Value error, ")
    wrong = re.sub(r"^\w+ should", "must", wrong)
    if isinstance(error["input"], bool) and "string" in wrong:
        wrong += "; put it in quotes, since YAML reads a bare yes, no, on or off as true or false"
    return lines[path], key, wrong


def _written(loc: tuple[Any, ...], lines: Mapping[Path, int]) -> Path:
    """The location that pydantic gives, without the members of unions, which are not in the file."""
    path: Path = ()
    for part in map(str, loc):
        if (*path, part) in lines:
            path = (*path, part)
    return path


def _suggestion(key: str) -> str:
    near = difflib.get_close_matches(key, sorted(_known_keys(Policy)), n=1)
    return f"; did you mean {near[0]}?" if near else "; remove it"


def _known_keys(model: type[BaseModel]) -> set[str]:
    keys = set(model.model_fields)
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys |= _known_keys(field.annotation)
    return keys
