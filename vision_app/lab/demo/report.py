"""Prints the result of a run: a table per post, the budgets, the checks, what to try next; or all as JSON."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from vision_app.printable import printable
from vision_app.settings import Settings
from vision_app.stack import postgres
from vision_app.stack.errors import StackError

from .checks import Check
from .evidence import Evidence, TenantBalance
from .run import Outcome

NOTHING = "—"
HOPS = (
    "published",
    "relayed",
    "judged",
    "opened",
    "checked",
    "granted",
    "answered",
    "collected",
    "completed",
    "committed",
    "announced",
)
"""The way of a post in order: on Redis, in Kafka, past the policy, opened, checked, money granted, answered by the
model, collected, complete, row committed, announced on Redis."""


def show(console: Console, outcome: Outcome, settings: Settings, home: Path) -> None:
    """The whole report."""
    for evidence in outcome.findings.posts:
        console.print(post_view(evidence))
        console.print()
    console.print(budget_table(outcome.findings.accounts))
    console.print()
    for check in outcome.checks:
        console.print(check_lines(check))
    for line in outcome.hanging:
        console.print(Text(f"✗ not announced in time: {line}", style="red"))
    console.print()
    for purpose, command in next_steps(outcome, settings, home):
        console.print(Text(f"# {purpose}", style="dim"))
        console.print(Text(command), soft_wrap=True)


# --- a post -----------------------------------------------------------------------------------------------------------


def post_view(evidence: Evidence) -> RenderableType:
    post, row = evidence.post, evidence.row or {}
    mark = " · [magenta]simulated[/]" if (row.get("data") or {}).get("simulated") else ""
    repeated = f" · published {len(post.trace_ids)} times" if len(post.trace_ids) > 1 else ""
    title = f"[bold]{post.name}[/] · {post.tenant_id}/{post.post_id} · {row.get('status', 'no row')}{repeated}{mark}"
    table = _table(title)
    table.expand = True
    table.add_column("PICTURE", no_wrap=True)
    table.add_column("KIND", no_wrap=True)
    table.add_column("WHAT IS SEEN", ratio=3, overflow="fold")
    table.add_column("TEXT ON IT", ratio=2, overflow="fold")
    table.add_column("TOKENS", no_wrap=True, justify="right")
    for picture, item, medium in zip(post.pictures, evidence.enrichments, evidence.media, strict=False):
        cells = (picture.file, *_medium_cells(item, medium))
        table.add_row(*(escape(printable(cell)) for cell in cells))
    more = Table.grid(padding=(0, 1))
    more.add_column(no_wrap=True)
    more.add_column(overflow="fold")
    for label, text in _footnotes(evidence):
        more.add_row(f"  {label}", Text(text))
    return Group(table, more)


def _table(title: str) -> Table:
    """A table without borders: on 80 columns they would leave too little room for the text."""
    return Table(
        title=title, title_justify="left", title_style="", header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )


def _medium_cells(item: Mapping[str, Any], medium: Mapping[str, Any]) -> tuple[str, str, str, str]:
    analysis = item.get("analysis")
    if not analysis:
        why = ", ".join(f"{name} {value}" for name, value in (item.get("details") or {}).items())
        return item["status"], f"{item.get('reason')}: {why}", NOTHING, tokens_text(medium)
    text = ((analysis.get("ocr") or {}).get("text") or "").strip()
    first_line = text.splitlines()[0] if text else NOTHING
    return analysis["classification"], analysis["description"], first_line, tokens_text(medium)


def tokens_text(medium: Mapping[str, Any]) -> str:
    """The tokens charged for a medium of this post. Twins share one call: the second shows 0."""
    billed = str(medium.get("tokens_billed", 0))
    return f"{billed} cached" if medium.get("cached") else billed


def _footnotes(evidence: Evidence) -> Iterator[tuple[str, str]]:
    for key in (evidence.row or {}).get("s3_vision_keys") or ():
        cost = f", cost {evidence.answers[key].answer.tokens} tokens" if key in evidence.answers else ": NOT THERE"
        yield "S3", f"{key}{cost}"
    for sha256, image in (evidence.images or {}).items():
        labels = printable(", ".join(sorted(image["labels"]))) or "no labels"
        yield "graph", f"(:Post)-[:HAS_IMAGE]->(:ImageContent {{sha256: '{sha256[:12]}…'}}) {labels}"
    times = stages(evidence)
    total = sum(milliseconds for _, milliseconds in times)
    yield "ms", f"{' · '.join(f'{hop} {ms}' for hop, ms in times)} = {total}"


def stages(evidence: Evidence) -> list[tuple[str, int]]:
    """Milliseconds from hop to hop, for the medium that was finished last. A hop without a time is left out."""
    times = _times(evidence)
    known = [(hop, times[hop]) for hop in HOPS if hop in times]
    return [(hop, max(0, at - before)) for (_, before), (hop, at) in pairwise(known)]


def _times(evidence: Evidence) -> dict[str, int]:
    row = evidence.row
    if row is None:
        return {}
    media = [medium.get("times") or {} for medium in evidence.media]
    slowest = max(media, key=lambda times: int(times.get("collected", 0)), default={})
    own = {name: at for name, at in (row["data"].get("times") or {}).items() if at is not None}
    ends = {"committed": round(row["updated_at"].timestamp() * 1000)}
    if evidence.announced:
        ends["announced"] = evidence.announced[0].at_ms
    return {**slowest, **own, **ends}


# --- money, checks ----------------------------------------------------------------------------------------------------


def budget_table(accounts: Sequence[TenantBalance]) -> Table:
    table = _table("[bold]Budgets today[/]")
    table.add_column("TENANT", overflow="fold")
    for heading in ("SPENT", "BILLED", "CALLS", "LIMIT", "REMAINING"):
        table.add_column(heading, justify="right", no_wrap=True)
    for account in accounts:
        budget = account.budget
        numbers = (budget["spent"], account.billed_tokens, account.billed_calls, budget["limit"], budget["remaining"])
        table.add_row(account.tenant_id, *map(str, numbers))
    return table


def check_lines(check: Check) -> Text:
    if check.ok:
        return Text(f"✓ {check.name}", style="green")
    lines = [f"✗ {check.name}", *(f"    {fault}" for fault in check.faults), f"    What to do: {check.remedy}"]
    return Text(printable("\n".join(lines)), style="red")


# --- next -------------------------------------------------------------------------------------------------------------


def next_steps(outcome: Outcome, settings: Settings, home: Path) -> Iterator[tuple[str, str]]:
    """Suggested next steps as (purpose, command); secrets come from the stack's env file."""
    evidence = next(evidence for evidence in outcome.findings.posts if evidence.post.found)
    post = evidence.post
    yield (
        "what runs, and what it logs about this post",
        f"vision status; grep {post.trace_ids[0]} {home}/logs/worker-1.log",
    )
    yield "the event in Kafka", "vision kafka consume --topic posts.vision.analyzed --from-beginning --max-messages 1"
    yield "the settings of the stack, for the commands below", f"set -a; . {home}/env; set +a"
    yield "the event on Redis", _last_entry(settings.vision_output_stream)
    columns = "vision_analyzed_at, vision_provider, vision_model, vision_tokens_used, s3_vision_keys"
    sql = f"SELECT {columns} FROM post_enrichment WHERE post_id = '{post.post_id}'"  # noqa: S608 - to be shown
    yield "the row in Postgres", f'{_psql()} "$DATABASE_URL" -x -c "{sql}"'
    if evidence.images is not None:
        cypher = f"MATCH (p:Post {{post_id: '{post.post_id}'}})-[:HAS_IMAGE]->(i:ImageContent) RETURN p, i"
        yield "the graph, with any Cypher client", f'cypher-shell -a "$NEO4J_URI" -u "$NEO4J_USER" "{cypher}"'
    yield "the post over HTTP", f"curl -s '{outcome.api_url}/api/v1/vision/posts/{post.post_id}'"
    yield (
        "the page: flow, posts, tenants, dead letters, cost, health",
        f"{sys.executable} -m webbrowser '{outcome.api_url}/ui'",
    )
    yield "stop everything", "vision down"


def _last_entry(stream: str) -> str:
    """A command that shows the newest entry of a stream, also without redis-cli."""
    if shutil.which("redis-cli"):
        return f'redis-cli -u "$REDIS_URL" XREVRANGE {stream} + - COUNT 1'
    code = f"import os, redis; print(redis.Redis.from_url(os.environ['REDIS_URL']).xrevrange('{stream}', count=1))"
    return f'{sys.executable} -c "{code}"'


def _psql() -> str:
    """The psql command: from PATH, else the one beside the embedded server."""
    if shutil.which("psql"):
        return "psql"
    try:
        return str(postgres.programs() / "psql")
    except StackError:
        return "psql"


# --- JSON -------------------------------------------------------------------------------------------------------------


def as_json(outcome: Outcome) -> dict[str, Any]:
    """The document of `vision demo --json`."""
    findings = outcome.findings
    return {
        "ok": outcome.ok,
        "simulated": findings.simulated,
        "seconds": round(findings.seconds, 2),
        "killed": findings.killed,
        "posts": [_post_json(evidence) for evidence in findings.posts],
        "budgets": [
            {**account.budget, "billed_tokens": account.billed_tokens, "calls": account.billed_calls}
            for account in findings.accounts
        ],
        "checks": [{"name": check.name, "ok": check.ok, "faults": list(check.faults)} for check in outcome.checks],
        "hanging": list(outcome.hanging),
    }


def _post_json(evidence: Evidence) -> dict[str, Any]:
    row = evidence.row or {}
    return {
        "name": evidence.post.name,
        "tenant_id": evidence.post.tenant_id,
        "post_id": evidence.post.post_id,
        "status": row.get("status"),
        "simulated": bool((row.get("data") or {}).get("simulated")),
        "events": [event.event_type for event in evidence.announced],
        "tokens": row.get("vision_tokens_used"),
        "s3_keys": row.get("s3_vision_keys"),
        "graph_nodes": None if evidence.images is None else sorted(evidence.images),
        "stages_ms": dict(stages(evidence)),
        "enrichments": list(evidence.enrichments),
    }
