"""Everything that the documentation names exists: metrics, settings, commands, files, modules, sections."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.promql import faults
from vision_app import topics
from vision_app.cli import COMMANDS
from vision_app.settings import OBSOLETE, every_variable

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / ".env.example"])
TEXTS = [page for page in PAGES if page.suffix == ".md"]
PACKAGES = ("vision_app", "agents", "tables", "bridges")
FOLDERS = (*PACKAGES, "tests", "docs", "scripts", "deploy", "config")
FOREIGN = ("faust/",)
"""Folders of libraries whose files are named."""
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
NOT_SETTINGS = {
    "VISION_HOME": "the embedded stack's folder",
    "VISION_LANG": "the language of the commands",
    "VISION_CACHE": "where jars are kept",
    "VISION_PORTS": "where embedded services may listen",
    "VISION_MAVEN_URL": "a mirror for the jars",
    "VISION_WORKER_ID": "given by whoever starts workers",
    "VISION_LOCK": "the lock that the image of docker-compose.yml is built from",
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_metrics(page: Path) -> None:
    """Also their labels. A table in a GRANT is none. Dashboards and alerts: test_deploy_monitoring.py."""
    kinds = "total|seconds|gauge|gb|size|lag|ready|waiting|state|bucket"
    prefixes = "vision|storage|events|circuit|stream|s3|ocr|tenant_storage"
    for metric in re.findall(
        rf"(?<!ON )\b((?:{prefixes})_[a-z_]*(?:{kinds})(?:{{[^}}]*}})?)(?![\w(])", page.read_text()
    ):
        assert faults(metric) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings(page: Path) -> None:
    known = every_variable()
    prefixes = "VISION|GIGACHAT|S3|NEO4J|REDIS|KAFKA|DATABASE|FEATURE|METRICS|LOG"
    named = set(re.findall(rf"\b((?:{prefixes})_[A-Z0-9_]*[A-Z0-9])\b", page.read_text()))
    scopes = {name for name in named if name.startswith("GIGACHAT_API_")}
    assert named - known - OBSOLETE.keys() - NOT_SETTINGS.keys() - scopes == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands(page: Path) -> None:
    named = set(re.findall(r"(?:^|[`$ ])vision ([a-z][a-z0-9]+)\b", page.read_text(), re.MULTILINE))
    assert {name for name in named if f"`vision {name}" in page.read_text()} - COMMANDS.keys() == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_topics(page: Path) -> None:
    known = {topic.name for topic in topics.ALL}
    named = set(re.findall(r"--topic (\S+?)[`\s]", page.read_text()))
    assert named - known == set()


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_files_and_modules(page: Path) -> None:
    assert list(missing(page.read_text("utf-8"))) == []


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_names_in_modules(page: Path) -> None:
    """Of `module.py` (`Name`, `other`): each is defined there."""
    for module, named in re.findall(r"`([\w/]+\.py)` \((`\w+`(?:, `\w+`)*)\)", page.read_text("utf-8")):
        text = (ROOT / module).read_text("utf-8")
        names = set(re.findall(r"\w+", named))
        assert {name for name in names - names_of(ROOT / module) if f"def {name}(" not in text} == set(), module


@pytest.mark.parametrize("package", PACKAGES)
def test_files_and_modules_in_docstrings(package: str) -> None:
    """Those of modules, classes and functions, and the texts below constants and fields."""
    wrong = {
        module.relative_to(ROOT).as_posix(): names
        for module in MODULES
        if module.is_relative_to(ROOT / package) and (names := list(missing("\n".join(docstrings(module)))))
    }
    assert wrong == {}


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_links(page: Path) -> None:
    """Links to other files, and to their sections."""
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        path, _, section = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if "://" not in target and not (file.exists() and (not section or section in sections(file))):
            wrong.append(target)
    assert wrong == []


def test_a_missing_name_is_noticed() -> None:
    text = "`vision_app/none.py`, `none/base.py`, `tests/unit/test_documentation.py::test_none`, `vision_app.none`, ``"
    assert [name.rpartition("none")[1] for name in missing(text)] == ["none"] * 4
    assert list(missing("`vision_app.topics.NONE`")) == ["vision_app.topics.NONE"]
    assert list(missing("see docs/none.md and test_none.py")) == ["docs/none.md", "test_none.py"]
    assert list(missing("`domain/budget.py`, `vision_app/audit/`, docs/budget.md, `faust/tables/recovery.py`")) == []
    assert list(missing("`vision_app.topics.ALL`, `tests.answers_table`, `vision_app.app.app`")) == []


def missing(text: str) -> Iterator[str]:
    """Names that look like a file, a folder, a test or a module of this repository and do not exist.

    Everything in backticks is checked; without backticks only names that end like our files.
    """
    for name in re.findall(r"`([^`\s]+)`|(?<![\w/`.~-])([\w/]+\.(?:py|md))\b(?![`/:])", text):
        name = name[0] or name[1]
        path, _, test = name.partition("::")
        if re.search(r"[{}*<>$…:]|^[/~.]", path) or path.startswith(FOREIGN):
            continue
        if path.startswith(tuple(f"{folder}/" for folder in FOLDERS)) or path.endswith((".py", ".md", ".sql", ".yml")):
            if not is_file(path.rstrip("/")) or (test and f"def {test}(" not in (ROOT / path).read_text("utf-8")):
                yield name
        elif re.fullmatch(rf"(?:{'|'.join((*PACKAGES, 'tests'))})(?:\.\w+)+", path) and not is_module(path):
            yield name


@cache
def files() -> frozenset[str]:
    """Every file and folder of the repository, also by the ends of its path: `budget.py`, `domain/budget.py`."""
    found = set[str]()
    for folder in FOLDERS:
        for parent, inner, names in os.walk(ROOT / folder):
            inner[:] = [name for name in inner if name != "__pycache__"]
            paths = [Path(parent).relative_to(ROOT), *(Path(parent, name).relative_to(ROOT) for name in names)]
            found |= {"/".join(path.parts[start:]) for path in paths for start in range(len(path.parts))}
    return frozenset(found)


def is_file(path: str) -> bool:
    return path in files() or (ROOT / path).exists()


def is_module(dotted: str) -> bool:
    """A module, or a name at its top."""
    path = ROOT.joinpath(*dotted.split("."))
    if path.is_dir() or path.with_suffix(".py").is_file():
        return True
    above = path.parent / "__init__.py" if path.parent.is_dir() else path.parent.with_suffix(".py")
    return above.is_file() and bool(names_of(above) & {path.name, "__getattr__"})


def names_of(module: Path) -> set[str]:
    names = set[str]()
    for node in ast.parse(module.read_text("utf-8")).body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.Import() | ast.ImportFrom():
                names |= {alias.asname or alias.name for alias in node.names}
            case ast.Assign() | ast.AnnAssign():
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return names


def docstrings(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value


@cache
def sections(page: Path) -> frozenset[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return frozenset(re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings)


def test_every_test_that_a_page_names_exists() -> None:
    """docs/connecting.md names the test of each of its rows, other pages name some."""
    functions = set(re.findall(r"def (test_\w+)", "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))))
    named = {name for page in (ROOT / "docs").rglob("*.md") for name in re.findall(r"`(test_\w+)`", page.read_text())}
    assert named - functions == set()
    rows = re.findall(r"^\| (?!option|-).*$", (ROOT / "docs" / "connecting.md").read_text().partition("\n## ")[2], re.M)
    assert [row for row in rows if "`test_" not in row] == []
