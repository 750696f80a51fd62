"""`vision audit`: accounts for the published inputs: their ends, calls and tokens, bill and ledger.

Exit code 0: nothing is wrong; 1: discrepancies, each shown; 2: a source could not be read.
"""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from vision_app.audit import Account, take_account
from vision_app.audit.figures import Figures, Waits
from vision_app.cli.times import MOMENT, clock, milliseconds, printable
from vision_app.operations.connections import run
from vision_app.printable import json_text
from vision_app.settings import load_settings
from vision_app.stack.errors import StackError

EXIT_DISCREPANCIES = 1
EXIT_UNREADABLE = 2
PIPE_WIDTH = 200
TENANTS_SHOWN = 50
DIFFERENCES_SHOWN = 20


@click.command()
@click.option("--tenant", "tenants", multiple=True, help="Only this tenant's; may be given several times.")
@click.option("--since", type=MOMENT, help="Only what was published since then: 2h, 1d (ago), 2026-11-22T18:00 (UTC).")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def audit(tenants: tuple[str, ...], since: datetime | None, as_json: bool) -> None:
    """Was every input answered once, and every token charged once?

    Compares inputs with rows, events, answers, graph, ledger, bill and charges. Reads only. Unfinished work is counted
    as under way; without any, the account is exact. Exit code 0 clean, 1 discrepancies, 2 cannot read.
    """
    if "" in tenants:
        raise click.BadParameter(
            "the id of a tenant is never empty; without --tenant all are read", param_hint="--tenant"
        )
    settings = load_settings()
    try:
        account = run(take_account(settings, since_ms=milliseconds(since) or 0, tenants=tenants or None))
    except StackError as fault:
        click.echo(f"vision: {fault}", err=True)
        sys.exit(EXIT_UNREADABLE)
    if as_json:
        click.echo(json_text(account.as_dict()))
    else:
        _show(account)
    sys.exit(0 if account.clean else EXIT_DISCREPANCIES)


def _show(account: Account) -> None:
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    console = Console(width=width, markup=False, highlight=False, emoji=False)
    since = f"since {clock(account.since_ms)} UTC" if account.since_ms else "all that is kept"
    console.print(f"Account of {since}, taken {clock(account.taken_ms)} UTC in {account.seconds:.1f} s")
    console.print(_summary(account))
    if len(account.tenants) > 1:
        console.print(_tenants(account))
    if account.differences:
        console.print(_differences(account))
    if account.charges:
        console.print(_charges(account))
    for note in account.notes:
        console.print(f"note: {printable(note)}")
    for sentence in account.discrepancies:
        console.print(f"WRONG: {printable(sentence)}", soft_wrap=True)
    wrong = "nothing is wrong" if account.clean else f"{account.discrepancies_total} discrepancies, see WRONG above"
    console.print(f"{account.inputs} inputs, {account.ended} ended, {account.missing} missing: {wrong}")


def _summary(account: Account) -> Table:
    table = Table("", "", "", box=None, show_header=False, pad_edge=False)
    ends = ("analyzed", "skipped", "deferred", "forgotten", "failed", "dead_lettered", "missing", "under_way")
    table.add_row("inputs", f"{account.inputs:,}", _some(account, *ends))
    _reasons(table, "  skipped because", account.skipped_because)
    table.add_row(
        "events",
        f"{account.events:,}",
        _some(account, "duplicate_events", "events_without_row", "rows_without_event", "rows_not_judged"),
    )
    gone = ("records_missing", "answers_missing", "documents_missing", "graph_missing", "letters", "letters_wrong")
    table.add_row("stores", "", _some(account, *gone))
    calls = "calls" if account.bill_available else "calls (by our records)"
    table.add_row(
        calls, f"{account.calls:,}", _some(account, "extra_calls", "extra_tokens", "extra_unexplained", "grants_open")
    )
    _reasons(table, "  asked again because", account.extra_because)
    table.add_row("tokens billed", f"{account.tokens_billed:,}", "")
    tokens = _some(account, "tokens_lost", "tokens_unexplained", "overspend")
    table.add_row("tokens in the ledger", f"{account.tokens_ledger:,}", tokens)
    charges = _some(account, "charges_missing", "charges_extra", "charges_under_way")
    table.add_row("tokens in Postgres", f"{account.tokens_postgres:,}", charges)
    table.add_row("publish to event", f"{account.waits.count:,}", _waits(account.waits))
    return table


def _some(figures: Figures, *names: str) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {getattr(figures, name):,}" for name in names)


def _reasons(table: Table, title: str, reasons: Any) -> None:
    if reasons:
        table.add_row(title, "", printable(", ".join(f"{name} {count:,}" for name, count in reasons.items())))


def _waits(waits: Waits) -> str:
    return f"p50 {waits.p50_ms / 1000:.2f} s, p95 {waits.p95_ms / 1000:.2f} s, max {waits.max_ms / 1000:.2f} s"


def _tenants(account: Account) -> Table:
    columns = ("TENANT", "INPUTS", "ENDED", "MISSING", "EVENTS", "CALLS", "EXTRA", "BILLED", "LEDGER", "PEAK", "P95")
    table = Table(*columns, box=None, pad_edge=False)
    for name, one in list(account.tenants.items())[:TENANTS_SHOWN]:
        peak = f"{one.peak.total:,} of {one.peak.limit:,}" if one.peak else ""
        counts = (one.inputs, one.ended, one.missing, one.events, one.calls, one.extra_calls)
        tokens = (one.tokens_billed, one.tokens_ledger)
        cells = (*counts, *(f"{count:,}" for count in tokens), peak, f"{one.waits.p95_ms / 1000:.2f} s")
        table.add_row(printable(name) or "(unreadable)", *(str(cell) for cell in cells))
    if len(account.tenants) > TENANTS_SHOWN:
        table.caption = f"and {len(account.tenants) - TENANTS_SHOWN} more; --json has all of them"
    return table


def _differences(account: Account) -> Table:
    """Bill and ledger, call by call, where they differ."""
    table = Table("GRANT", "TENANT", "BILLED", "CHARGED", "BECAUSE", box=None, pad_edge=False)
    for one in account.differences[:DIFFERENCES_SHOWN]:
        names = (one.grant_id, one.tenant_id, f"{one.billed:,}", f"{one.charged:,}", one.because)
        table.add_row(*(printable(name) for name in names))
    if len(account.differences) > DIFFERENCES_SHOWN:
        table.caption = f"and {len(account.differences) - DIFFERENCES_SHOWN} more; --json has all of them"
    return table


def _charges(account: Account) -> Table:
    """Days on which the charges in Postgres differ from those of the ledger."""
    table = Table(*("DAY", "TENANT", "LEDGER", "POSTGRES", "MISSING", "EXTRA", "ON THE WAY"), box=None, pad_edge=False)
    for one in account.charges[:DIFFERENCES_SHOWN]:
        counts = (one.tokens_ledger, one.tokens_postgres, one.missing, one.extra, one.under_way)
        table.add_row(one.day, printable(one.tenant_id), *(f"{count:,}" for count in counts))
    if len(account.charges) > DIFFERENCES_SHOWN:
        table.caption = f"and {len(account.charges) - DIFFERENCES_SHOWN} more; --json has all of them"
    return table
