"""Crash points: after every `await` of the worker's own code a test can kill the process as by `kill -9`.

Nothing of this is in the product: only a worker started by `crash_worker` uses it. It compiles the modules below with a
check after each await, and the process kills itself when it first passes a wanted one. The points are the awaits found
in the source, so a new await is automatically a new point.

A point is named `module:function#number`; the number counts the awaits of that function from 1. VISION_CRASH_AT is such
a name, or `@file`: die at any point that is not in the file yet (one per line), after adding it. A worker that is
started repeatedly with the same file dies once at every point that it reaches.

Some points are reached only after errors that nothing outside can cause. VISION_RAISE_AT=@file makes points raise: each
line is a point, how many times it raises in one life of the process, and the exception (`module:Class`; default
`Injected`). Without the file there are no errors; a changed file is read again. Instead of an exception, `hang` stops
the coroutine for ever, and `block` stops the event loop: they hold a stage to test that the stall is noticed.
`hang@budget` does so only in that stage (`telemetry/watch.py`), for points that several stages share.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from vision_app.telemetry.watch import stage_in_hand

VARIABLE = "VISION_CRASH_AT"
RAISING = "VISION_RAISE_AT"
COVERED = (
    "agents",
    "bridges",
    "tables",
    "vision_app.analysis",
    "vision_app.streams",
    "vision_app.stores.answers",
    "vision_app.stores.budget_mirror",
    "vision_app.stores.redis_announcer",
    "vision_app.providers.gigachat",
    "vision_app.providers.gate",
    "vision_app.providers.slots",
)
"""Packages and modules with points: those with successive effects outside the process."""
_CHECK = "__crash_point__"
HANG, BLOCK = "hang", "block"
BLOCK_SECONDS = 3600.0


class Injected(Exception):
    """The default exception of a point: an unexpected error."""


def install(wanted: str, raising: str = "") -> None:
    """Compile the covered modules that are imported from now on with their points, which die and raise as configured.

    Raises ValueError if there is no such point.
    """
    known = set(points())
    if raising and not raising.startswith("@"):
        raise ValueError(f"{RAISING}={raising} names no file; write @ and its path")
    errors = _Errors(Path(raising[1:]), known) if raising else None
    if wanted.startswith("@"):
        check = _Check(known, Path(wanted[1:]), errors=errors)
    elif wanted in known or not wanted:
        check = _Check({wanted}, errors=errors)
    else:
        raise ValueError(f"{VARIABLE}={wanted} names no await; `python -m vision_app.lab.crash_points` lists them")
    sys.meta_path.insert(0, _Finder(check))


def _errors(path: Path, known: set[str]) -> dict[str, list[str]]:
    """The exceptions of every point that raises; the last entry is raised first."""
    found: dict[str, list[str]] = {}
    for line in path.read_text("utf-8").splitlines() if path.exists() else []:
        point, times, *named = line.split()
        if point not in known:
            raise ValueError(f"{RAISING}: {point} names no await; `python -m vision_app.lab.crash_points` lists them")
        found[point] = (named or [f"{__name__}:{Injected.__name__}"]) * int(times) + found.get(point, [])
    return found


def points() -> list[str]:
    """All points of the current code, sorted."""
    return sorted(point for module, path in _modules() for point in points_of(path.read_text("utf-8"), module))


def points_of(source: str, module: str) -> list[str]:
    """The points of one module's source, in the order of the text."""
    transformer = _Transformer(module)
    transformer.visit(ast.parse(source))
    return transformer.found


def _modules() -> Iterator[tuple[str, Path]]:
    for name in COVERED:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ValueError(f"{name} is covered by crash points but is no module any more; correct COVERED")
        path = Path(spec.origin)
        if path.name != "__init__.py":
            yield name, path
            continue
        for member in sorted(path.parent.glob("*.py")):
            yield (name if member == path else f"{name}.{member.stem}"), member


class _Errors:
    """The exceptions of points, read from the file; the last entry is raised first."""

    def __init__(self, path: Path, known: set[str]) -> None:
        self._path, self._known, self._read = path, known, -1
        self._left: dict[str, list[str]] = {}
        self.at("")

    def at(self, point: str) -> list[str]:
        try:
            changed = os.stat(self._path).st_mtime_ns
        except FileNotFoundError:
            changed = 0
        if changed != self._read:
            self._read, self._left = changed, _errors(self._path, self._known)
        return self._left.get(point, [])


class _Check:
    """The check at a point. Kills by SIGKILL, so that no clean-up code runs. `passed` is the file of earlier deaths.

    `errors`: the exceptions of points at which it does not die.
    """

    def __init__(self, wanted: set[str], passed: Path | None = None, *, errors: _Errors | None) -> None:
        self._passed, self._errors = passed, errors
        self._wanted = wanted - (set(passed.read_text("utf-8").split()) if passed and passed.exists() else set())

    async def __call__(self, point: str, value: Any = None) -> Any:
        if point in self._wanted:
            if self._passed is not None:
                with self._passed.open("a", encoding="utf-8") as file:
                    file.write(f"{point}\n")
            os.kill(os.getpid(), signal.SIGKILL)
        if self._errors is not None and (left := self._errors.at(point)):
            what, _, stage = left[-1].partition("@")
            if stage and stage != stage_in_hand():
                return value
            left.pop()
            if what == HANG:
                await asyncio.Event().wait()
            if what == BLOCK:
                time.sleep(BLOCK_SECONDS)  # noqa: ASYNC251 - blocking is the purpose
            module, _, name = what.partition(":")
            raise getattr(importlib.import_module(module), name)(f"as told by {RAISING}")
        return value


class _Finder(MetaPathFinder):
    def __init__(self, check: _Check) -> None:
        self._check = check

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not any(fullname == name or fullname.startswith(f"{name}.") for name in COVERED):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(fullname, spec.origin, self._check)
        return spec


class _Loader(SourceFileLoader):
    """Compiles with the checks, without any bytecode cache."""

    def __init__(self, fullname: str, path: str, check: _Check) -> None:
        super().__init__(fullname, path)
        self._check = check

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        tree = _Transformer(fullname).visit(ast.parse(self.get_data(path)))
        return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        setattr(module, _CHECK, self._check)
        super().exec_module(module)


class _Transformer(ast.NodeTransformer):
    """Adds a check after every await, and at the start of the body of every `async for` and `async with`."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._scope: list[str] = []
        self._numbers: dict[str, int] = {}
        self.found: list[str] = []

    def _next(self) -> ast.Constant:
        scope = ".".join(self._scope)
        self._numbers[scope] = self._numbers.get(scope, 0) + 1
        self.found.append(f"{self._module}:{scope}#{self._numbers[scope]}")
        return ast.Constant(self.found[-1])

    def _scoped(self, node: Any) -> Any:
        self._scope.append(node.name)
        self.generic_visit(node)
        self._scope.pop()
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _scoped

    def visit_Await(self, node: ast.Await) -> ast.AST:
        self.generic_visit(node)
        call = ast.Call(ast.Name(_CHECK, ast.Load()), [self._next(), node], [])
        return ast.copy_location(ast.Await(call), node)

    def _block(self, node: Any) -> Any:
        point = self._next()
        self.generic_visit(node)
        call = ast.Expr(ast.Await(ast.Call(ast.Name(_CHECK, ast.Load()), [point], [])))
        node.body.insert(0, ast.copy_location(call, node))
        return node

    visit_AsyncFor = visit_AsyncWith = _block


if __name__ == "__main__":
    print("\n".join(points()))
