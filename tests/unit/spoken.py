"""Finds sentences in the code of the commands that are not given to `say`, so that they would always be English."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

COVERED = (
    *("cli/*.py", "operations/*.py", "audit/*.py", "clients/faults.py", "clients/gigachat.py", "clients/kafka_*.py"),
    *("clients/neo4j.py", "clients/postgres.py", "clients/redis.py", "clients/tls.py", "secret_files.py"),
    *("stack/certificates.py", "stack/checks.py", "stack/client.py", "stack/jars.py", "stack/kafka.py"),
    *("stack/neo4j.py", "stack/ports.py", "stack/postgres.py", "stack/reachable.py", "stack/s3.py"),
    *("stack/services.py", "stack/set_up.py", "stack/simulator.py", "stack/supervised.py", "stack/worker.py"),
)
LEFT_OUT = {
    "operations/e2e.py": "always Russian, as the acceptance guide shows it",
    "cli/e2e.py": "always Russian, as the acceptance guide shows it",
    "audit/summary.py": "descriptions for the API's document",
    "operations/timeline.py": "of the API and the page, which has its own texts",
}
ALLOWED = {
    # names of columns, statuses and reasons, which are the same in every language or are said where they are shown
    *("Analyzed At", "Tokens Used", "Is Meme", "Has Classification", "Has Description", "Has OCR", "S3 Keys Count"),
    *("Trace ID", "Waits For", "Dead Letter", "Tokens At Most", "dead letter", "no row", "not answering"),
    *("ledger lost", "given up", "another version", "embedded stack", "Redis Sentinel", "of the Sentinels"),
    # what others say, compared with
    *("no space left", "address already in use", "cannot allocate memory", "rejected SSL upgrade", "no encryption"),
    *("password authentication failed", "requires a valid client certificate", "certificate authentication failed"),
    *("SSL required", "Connection closed by server", "Value error, "),
    # variables, log fields, invented content
    *("GIGACHAT_BASE_URL and GIGACHAT_AUTH_URL", "read it with `vision kafka consume`", "never uploaded: "),
    "read the record with `vision kafka consume`",
}
SENTENCE = re.compile(r"[A-Za-z]{2,}[,:;]? [A-Za-z(]{2,}")
FOR_MACHINES = re.compile(r"\b(SELECT|INSERT|UPDATE|WHERE|MATCH|JOIN|SHOW)\b|://")
SAYING = ("say", "said", "noted")


def said_elsewhere(package: Path) -> list[str]:
    """Each sentence with its place."""
    files = sorted({file for pattern in COVERED for file in package.glob(pattern)})
    names = {file: str(file.relative_to(package)) for file in files}
    return [
        f"{names[file]}:{line}: {text}"
        for file in files
        if names[file] not in LEFT_OUT
        for line, text in _sentences(ast.parse(file.read_text("utf-8")))
    ]


def _sentences(tree: ast.Module) -> Iterator[tuple[int, str]]:
    known = {id(one) for node in ast.walk(tree) for one in _not_said(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in known:
            text = node.value
            if SENTENCE.search(text) and text not in ALLOWED and not FOR_MACHINES.search(text):
                yield node.lineno, text


def _not_said(node: ast.AST) -> Iterator[ast.AST]:
    """Docstrings, the help of options (a test of its own reads them), and what is given to `say`."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        yield node.value
    if isinstance(node, ast.keyword) and node.arg == "help":
        yield from ast.walk(node.value)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SAYING:
        yield from node.args
