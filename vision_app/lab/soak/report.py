"""The result of a soak run as a table, and as JSON-ready data."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .run import SoakResult

FIGURES = (
    ("inputs", "entries on the input stream"),
    ("ended", "ended exactly once"),
    ("analyzed", "… analyzed"),
    ("skipped", "… skipped with a reason"),
    ("failed", "… failed with a reason"),
    ("deferred", "… still deferred for lack of money"),
    ("dead_lettered", "… unreadable, in the DLQ"),
    ("missing", "missing"),
    ("rows_without_event", "rows without event"),
    ("events_without_row", "events without row"),
    ("duplicate_events", "events published twice"),
    ("calls", "paid calls"),
    ("extra_calls", "… beyond one per tenant and picture"),
    ("tokens_billed", "tokens billed"),
    ("extra_tokens", "… for the extra calls"),
    ("tokens_ledger", "tokens in the ledger"),
    ("tokens_lost", "… for calls that were cut off, beyond their bill"),
    ("overspend", "tokens beyond a limit"),
)


def as_json(result: SoakResult) -> dict[str, Any]:
    """Everything about a run."""
    wish = {**asdict(result.wish), "home": str(result.wish.home)}
    return {
        "ok": result.ok,
        "wish": wish,
        "entries": result.entries,
        "left": result.left,
        "forced": result.forced,
        "seconds": {name: round(seconds, 1) for name, seconds in result.seconds.items()},
        "blows": result.chaos.signals,
        "outages": result.chaos.outages,
        "disturbances": list(result.disturbances),
        "ended_by_themselves": result.chaos.ended_by_themselves,
        "account": result.account.as_dict(),
    }


def show(console: Console, result: SoakResult) -> None:
    """A table of the figures, then every discrepancy."""
    signals = Counter(blow["blow"] for blow in result.chaos.signals)
    struck = ", ".join(f"{count} × {blow}" for blow, count in sorted(signals.items())) or "none"
    broken = ", ".join(f"{outage['service']} {outage['fault']}" for outage in result.chaos.outages) or "none"
    table = Table(title=f"Seed {result.wish.seed}: {len(result.plan.posts)} posts", title_justify="left")
    table.add_column("what")
    table.add_column("figure", justify="right")
    for name, meaning in FIGURES:
        table.add_row(meaning, f"{getattr(result.account, name):,}")
    table.add_row("backlog worked off after", f"{result.seconds['backlog']:.0f} s")
    console.print(table)
    gave_up = len(result.chaos.ended_by_themselves)
    console.print(f"Workers struck: {struck}; gave up by themselves to recover: {gave_up}. Services broken: {broken}.")
    if result.disturbances:
        console.print(_broker_table(result.disturbances))
    for line in _faults(result):
        console.print(f"[red]✗ {escape(line)}[/]")


def _broker_table(disturbances: Sequence[Mapping[str, Any]]) -> Table:
    """For each kind of disturbance: how often, its duration, and the longest time without an announcement after it."""
    table = Table("brokers", title="Longest silence of the output after each disturbance", title_justify="left")
    for column in ("times", "median, s", "longest, s"):
        table.add_column(column, justify="right")
    for kind in dict.fromkeys(one["disturbance"] for one in disturbances):
        silences = [one["silence"] for one in disturbances if one["disturbance"] == kind]
        table.add_row(kind, str(len(silences)), f"{statistics.median(silences):.1f}", f"{max(silences):.1f}")
    return table


def _faults(result: SoakResult) -> list[str]:
    left = [f"not worked off: {result.left}"] if result.left else []
    forced = [f"{result.forced} workers that were told to end had to be killed"] if result.forced else []
    return [*left, *forced, *result.account.discrepancies]
