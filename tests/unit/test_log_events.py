"""Every log call of the program has a row in the catalogue, and every row a log call; the page is made from them.

The calls are read from the syntax trees, so that those count, too, that no test reaches.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from vision_app.telemetry.log_events import CATALOGUE, GUIDE_SENTENCES, NO_REMEDY, Level, LogEvent

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "tests" / "acceptance" / "guide.md"
PRODUCT = ("vision_app", "agents", "bridges", "tables")
METHODS = {level: level for level in get_args(Level)} | {"exception": "error"}
"""Method of a logger → level of its line."""
MAKERS = ("get_logger", "getLogger")
EVENTS = [event for events in CATALOGUE.values() for event in events]
BY_NAME = {event.name: event for event in EVENTS}

_spec = importlib.util.spec_from_file_location("log_events_reference", ROOT / "scripts" / "log_events_reference.py")
assert _spec
assert _spec.loader
log_events_reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(log_events_reference)


# --- the program against the catalogue --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What a log call writes: `event` at `level`, or why that cannot be known (`problem`)."""

    line: int
    level: str = ""
    event: str = ""
    problem: str = ""


def log_calls(source: str) -> Iterator[Found]:
    """The events of the log calls in a module, and each use of a logger whose event cannot be read."""
    tree = ast.parse(source)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    loggers, lookups = _loggers(tree), _lookups(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in loggers:
            yield from _events_of_use(node, parents, lookups)
        elif isinstance(node, ast.ImportFrom) and {alias.name for alias in node.names} & {"log", "logger"}:
            yield Found(node.lineno, problem="a logger of another module")
        elif isinstance(node, ast.Attribute) and node.attr in METHODS:
            owner = node.value
            if isinstance(owner, ast.Name) and owner.id == "logging":
                yield Found(node.lineno, problem=f"logging.{node.attr}: use structlog")
            elif isinstance(owner, ast.Attribute) and owner.attr in ("log", "logger", "_log", "_logger"):
                yield Found(node.lineno, problem=f"a logger in an attribute: {ast.unparse(owner)}")
            elif isinstance(owner, ast.Call) and _makes_a_logger(owner):
                yield Found(node.lineno, problem="a logger without a name")


def _events_of_use(
    logger: ast.Name, parents: dict[ast.AST, ast.AST], lookups: dict[str, tuple[str, ...]]
) -> Iterator[Found]:
    method = parents[logger]
    call = parents.get(method)
    if isinstance(method, ast.Attribute) and method.attr in ("level", "setLevel"):
        return
    if not isinstance(method, ast.Attribute) or not isinstance(call, ast.Call) or call.func is not method:
        yield Found(logger.lineno, problem=f"the logger is used, but not called: {ast.unparse(method)}")
        return
    if method.attr not in METHODS:
        yield Found(call.lineno, problem=f"not a method of one level: {method.attr}")
        return
    level, event = METHODS[method.attr], call.args[0] if call.args else None
    match event:
        case ast.Constant(value=str(name)):
            yield Found(call.lineno, level, name)
        case ast.Subscript(value=ast.Name(id=constant)) if constant in lookups:
            for name in lookups[constant]:
                yield Found(call.lineno, level, name)
        case _:
            yield Found(call.lineno, problem=f"the event is not a literal: {ast.unparse(call)}")


def _loggers(tree: ast.Module) -> set[str]:
    """The names that hold a logger, in any scope."""
    assigned = (node for node in ast.walk(tree) if isinstance(node, ast.Assign | ast.AnnAssign) and node.value)
    return {
        target.id
        for node in assigned
        if isinstance(node.value, ast.Call) and _makes_a_logger(node.value)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }


def _makes_a_logger(call: ast.Call) -> bool:
    return ast.unparse(call.func).rpartition(".")[2] in MAKERS


def _lookups(tree: ast.Module) -> dict[str, tuple[str, ...]]:
    """Constants of the module that map something to texts, with these texts. They are assigned once."""
    found: dict[str, list[tuple[str, ...] | None]] = defaultdict(list)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found[node.id].append(None)
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Dict(values=values)):
                texts = [v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)]
                if len(texts) == len(values) and name.strip("_").isupper():
                    found[name].append(tuple(texts))
    return {name: texts[1] for name, texts in found.items() if len(texts) == 2 and texts[1] is not None}


@cache
def product() -> dict[str, tuple[Found, ...]]:
    """Module → its log calls."""
    paths = (path for package in PRODUCT for path in sorted((ROOT / package).rglob("*.py")))
    return {path.relative_to(ROOT).as_posix(): tuple(log_calls(path.read_text("utf-8"))) for path in paths}


def faults(module: str, calls: tuple[Found, ...]) -> Iterator[str]:
    """What is wrong with a module's log calls."""
    for call in calls:
        event = BY_NAME.get(call.event)
        if call.problem:
            yield f"{module}:{call.line}: {call.problem}"
        elif event is None:
            yield f"{module}:{call.line}: {call.event!r} has no row in vision_app/telemetry/log_events.py"
        elif call.level not in event.levels:
            yield f"{module}:{call.line}: {call.event} is logged as {call.level}, its row says {event.levels}"


def test_every_log_call_has_a_row_with_its_level() -> None:
    assert [fault for module, calls in product().items() for fault in faults(module, calls)] == []


def test_every_row_and_each_of_its_levels_is_used() -> None:
    used = {(call.event, call.level) for calls in product().values() for call in calls}
    assert len(used) > 100
    assert {(event.name, level) for event in EVENTS for level in event.levels} - used == set()


# --- the catalogue itself ---------------------------------------------------------------------------------------------


def test_names_are_unique_and_in_snake_case_unless_the_guide_quotes_them() -> None:
    assert len(BY_NAME) == len(EVENTS)
    in_words = {event.name for event in EVENTS if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)+", event.name)}
    assert in_words == GUIDE_SENTENCES


def test_the_sentences_of_the_guide_are_those_that_it_quotes() -> None:
    """In comments of its scripts (`# "…"`) and among its symptoms (`- Нет логов "…"`, `- Ошибка "…"`)."""
    quoted = re.findall(r'^(?:# |- (?:Нет логов|Ошибка) )"([^"]+)"', GUIDE.read_text("utf-8"), re.MULTILINE)
    assert sorted(quoted) == sorted(GUIDE_SENTENCES)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_a_row_says_what_it_means_and_what_to_do(event: LogEvent) -> None:
    assert event.levels
    for text in (event.meaning, event.remedy):
        assert text == NO_REMEDY or re.fullmatch(r"[A-Z][^\n|]*\.", text), text
    needs_remedy = bool({"warning", "error", "critical"} & set(event.levels))
    assert (event.remedy != NO_REMEDY) == needs_remedy


def test_the_page_is_made_from_the_catalogue() -> None:
    assert log_events_reference.PAGE.read_text("utf-8") == log_events_reference.page(), "run make reference"


# --- the check itself -------------------------------------------------------------------------------------------------

HEAD = "import structlog\nlog = structlog.get_logger(__name__)\n"


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("log.info('bucket_created', bucket=b)", ""),
        ("log.exception('timer_failed')", ""),
        ("def f():\n    log.warning('dead_lettered')", "is logged as warning, its row says ('error',)"),
        ("log.info('something_new')", "'something_new' has no row"),
        ("log.info(event)", "not a literal"),
        ("log.info(f'{name}_created')", "not a literal"),
        ("log.info('a' if b else 'c')", "not a literal"),
        ("log.info(event='bucket_created')", "not a literal"),
        ("E = {1: 'schema_migrated', 2: 'schema_repaired'}\nlog.info(E[n])", ""),
        ("E = {1: 'schema_migrated', 2: 'something_new'}\nlog.info(E[n])", "'something_new' has no row"),
        ("E = {1: 'schema_migrated', 2: text}\nlog.info(E[n])", "not a literal"),
        ("E = {1: 'schema_migrated'}\nE = other\nlog.info(E[n])", "not a literal"),
        ("log.log(20, 'bucket_created')", "not a method of one level"),
        ("log.bind(a=1).info('bucket_created')", "not a method of one level"),
        ("say = log.info\nsay('something_new')", "used, but not called"),
        ("other = log", "used, but not called"),
        ("self.log.info('something_new')", "a logger in an attribute"),
        ("from vision_app.app import log as other\nother.info('something_new')", "a logger of another module"),
        ("structlog.get_logger().info('something_new')", "a logger without a name"),
        ("import logging\nlogging.info('something_new')", "use structlog"),
        ("import logging\nlogger = logging.getLogger('x')\nlogger.error('something_new')", "has no row"),
    ],
)
def test_what_the_check_notices(body: str, fault: str) -> None:
    found = list(faults("m", tuple(log_calls(HEAD + body))))
    assert (len(found), fault in found[0]) == (1, True) if fault else found == []
