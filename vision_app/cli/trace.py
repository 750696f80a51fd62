"""`vision trace ID`: every hop of a post with its time, and where it stopped."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import datetime

import click
from rich.console import Console
from rich.table import Table

from vision_app.cli.times import MOMENT, clock, milliseconds, printable
from vision_app.operations.connections import run
from vision_app.operations.trace import Trace
from vision_app.operations.trace import trace as trace_post
from vision_app.operations.waiting import reason_of
from vision_app.printable import json_text
from vision_app.settings import load_settings
from vision_app.texts import noted, said, say

EXIT_UNFINISHED = 3
PIPE_WIDTH = 200
STATUSES = {"no row": noted("no row"), "dead letter": noted("dead letter")}
"""What `Trace.status` says if it is not a status of the row."""


@click.command()
@click.argument("identity", metavar="ID")
@click.option("--tenant", "tenant_id", help="Only this tenant's post.")
@click.option("--since", type=MOMENT, default="24h", show_default=True, help="How far back to search without a row.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def trace(identity: str, tenant_id: str | None, since: datetime, as_json: bool) -> None:
    """Show a post's way: ID is of a post, a trace, a Redis entry (1727654321000-0), a Kafka record (topic-3-17) or a
    dead letter.

    Exit code 0 if it came to its end, 3 if it is still on its way, 1 if nothing is known of it.
    """
    settings = load_settings()
    found = run(trace_post(settings, identity, tenant_id=tenant_id, since_ms=milliseconds(since) or 0))
    if as_json:
        click.echo(json_text([asdict(one) for one in found]))
    else:
        console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, markup=False, highlight=False, emoji=False)
        for one in found:
            _show(console, one, traced=bool(settings.otel_exporter_otlp_endpoint))
    sys.exit(EXIT_UNFINISHED if any(one.stopped for one in found) else 0)


def _show(console: Console, found: Trace, traced: bool) -> None:
    console.print(
        printable(
            say(
                "Post {post_id} of {tenant_id}, trace {trace_id}: {status}",
                post_id=found.post_id,
                tenant_id=found.tenant_id,
                trace_id=found.trace_id,
                status=say(STATUSES[found.status]) if found.status in STATUSES else found.status,
            )
        )
    )
    if traced and found.w3c_trace_id:
        console.print(say("Its spans at the collector of traces have the trace id {id}.", id=found.w3c_trace_id))
    table = Table(*said("TIME (UTC)", "+MS", "WHERE", "PLACE", "WHAT"), box=None, pad_edge=False)
    start = found.hops[0].at_ms if found.hops else 0
    for hop in found.hops:
        what = f"{hop.what}  ← {hop.waits}" if hop.waits else hop.what
        table.add_row(clock(hop.at_ms), str(hop.at_ms - start), hop.where, hop.place, printable(what))
    console.print(table)
    for medium in found.media:
        why = f": {reason_of(medium)}" if medium.get("reason") else ""
        console.print(
            printable(
                say("medium {sha256} {status}{why}", sha256=medium["sha256"][:12], status=medium["status"], why=why)
            )
        )
    if not found.whole:
        console.print(say("Not everything was read: too many records; narrow it with --tenant or --since."))
    for letter in found.letters:
        console.print(
            printable(say("Dead letter {letter} waits for a decision: vision dlq show {letter}", letter=letter))
        )
    if found.stopped:
        console.print(printable(say("Stopped: {stopped}", stopped=found.stopped)))
    elif found.letters:
        console.print(
            say("It ended among the dead letters: vision dlq replay tries again, vision dlq discard ends it.")
        )
    else:
        console.print(say("It came to its end."))
