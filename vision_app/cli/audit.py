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
from vision_app.texts import noted, said, say

EXIT_DISCREPANCIES = 1
EXIT_UNREADABLE = 2
PIPE_WIDTH = 200
TENANTS_SHOWN = 50
DIFFERENCES_SHOWN = 20
FIGURES = {
    "analyzed": noted("analyzed"),
    "skipped": noted("skipped"),
    "deferred": noted("deferred"),
    "forgotten": noted("forgotten"),
    "failed": noted("failed"),
    "dead_lettered": noted("dead lettered"),
    "missing": noted("missing"),
    "under_way": noted("under way"),
    "duplicate_events": noted("duplicate events"),
    "events_without_row": noted("events without row"),
    "rows_without_event": noted("rows without event"),
    "rows_not_judged": noted("rows not judged"),
    "records_missing": noted("records missing"),
    "answers_missing": noted("answers missing"),
    "documents_missing": noted("documents missing"),
    "graph_missing": noted("graph missing"),
    "letters": noted("letters"),
    "letters_wrong": noted("letters wrong"),
    "extra_calls": noted("extra calls"),
    "extra_tokens": noted("extra tokens"),
    "extra_unexplained": noted("extra unexplained"),
    "grants_open": noted("grants open"),
    "charges_missing": noted("charges missing"),
    "charges_extra": noted("charges extra"),
    "charges_under_way": noted("charges on the way"),
    "tokens_lost": noted("tokens lost"),
    "tokens_unexplained": noted("tokens unexplained"),
    "overspend": noted("overspend"),
}
"""How a count of `Figures` is named in the table."""


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
            say("the id of a tenant is never empty; without --tenant all are read"), param_hint="--tenant"
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
    since = say("since {at} UTC", at=clock(account.since_ms)) if account.since_ms else say("all that is kept")
    console.print(
        say(
            "Account of {since}, taken {at} UTC in {seconds:.1f} s",
            since=since,
            at=clock(account.taken_ms),
            seconds=account.seconds,
        )
    )
    console.print(_summary(account))
    if len(account.tenants) > 1:
        console.print(_tenants(account))
    if account.differences:
        console.print(_differences(account))
    if account.charges:
        console.print(_charges(account))
    for note in account.notes:
        console.print(say("note: {note}", note=printable(note)))
    for sentence in account.discrepancies:
        console.print(say("WRONG: {sentence}", sentence=printable(sentence)), soft_wrap=True)
    wrong = (
        say("nothing is wrong")
        if account.clean
        else say("{count} discrepancies, see WRONG above", count=account.discrepancies_total)
    )
    console.print(
        say(
            "{inputs} inputs, {ended} ended, {missing} missing: {wrong}",
            inputs=account.inputs,
            ended=account.ended,
            missing=account.missing,
            wrong=wrong,
        )
    )


def _summary(account: Account) -> Table:
    table = Table("", "", "", box=None, show_header=False, pad_edge=False)
    ends = ("analyzed", "skipped", "deferred", "forgotten", "failed", "dead_lettered", "missing", "under_way")
    table.add_row(say("inputs"), f"{account.inputs:,}", _some(account, *ends))
    _reasons(table, say("  skipped because"), account.skipped_because)
    table.add_row(
        say("events"),
        f"{account.events:,}",
        _some(account, "duplicate_events", "events_without_row", "rows_without_event", "rows_not_judged"),
    )
    gone = ("records_missing", "answers_missing", "documents_missing", "graph_missing", "letters", "letters_wrong")
    table.add_row(say("stores"), "", _some(account, *gone))
    calls = say("calls") if account.bill_available else say("calls (by our records)")
    table.add_row(
        calls, f"{account.calls:,}", _some(account, "extra_calls", "extra_tokens", "extra_unexplained", "grants_open")
    )
    _reasons(table, say("  asked again because"), account.extra_because)
    table.add_row(say("tokens billed"), f"{account.tokens_billed:,}", "")
    tokens = _some(account, "tokens_lost", "tokens_unexplained", "overspend")
    table.add_row(say("tokens in the ledger"), f"{account.tokens_ledger:,}", tokens)
    charges = _some(account, "charges_missing", "charges_extra", "charges_under_way")
    table.add_row(say("tokens in Postgres"), f"{account.tokens_postgres:,}", charges)
    table.add_row(say("publish to event"), f"{account.waits.count:,}", _waits(account.waits))
    return table


def _some(figures: Figures, *names: str) -> str:
    return ", ".join(f"{say(FIGURES[name])} {getattr(figures, name):,}" for name in names)


def _reasons(table: Table, title: str, reasons: Any) -> None:
    if reasons:
        table.add_row(title, "", printable(", ".join(f"{name} {count:,}" for name, count in reasons.items())))


def _waits(waits: Waits) -> str:
    return say(
        "p50 {p50:.2f} s, p95 {p95:.2f} s, max {longest:.2f} s",
        p50=waits.p50_ms / 1000,
        p95=waits.p95_ms / 1000,
        longest=waits.max_ms / 1000,
    )


def _tenants(account: Account) -> Table:
    columns = said(
        "TENANT", "INPUTS", "ENDED", "MISSING", "EVENTS", "CALLS", "EXTRA", "BILLED", "LEDGER", "PEAK", "P95"
    )
    table = Table(*columns, box=None, pad_edge=False)
    for name, one in list(account.tenants.items())[:TENANTS_SHOWN]:
        peak = say("{total:,} of {limit:,}", total=one.peak.total, limit=one.peak.limit) if one.peak else ""
        counts = (one.inputs, one.ended, one.missing, one.events, one.calls, one.extra_calls)
        tokens = (one.tokens_billed, one.tokens_ledger)
        cells = (
            *counts,
            *(f"{count:,}" for count in tokens),
            peak,
            say("{seconds:.2f} s", seconds=one.waits.p95_ms / 1000),
        )
        table.add_row(printable(name) or say("(unreadable)"), *(str(cell) for cell in cells))
    if len(account.tenants) > TENANTS_SHOWN:
        table.caption = say("and {more} more; --json has all of them", more=len(account.tenants) - TENANTS_SHOWN)
    return table


def _differences(account: Account) -> Table:
    """Bill and ledger, call by call, where they differ."""
    table = Table(*said("GRANT", "TENANT", "BILLED", "CHARGED", "BECAUSE"), box=None, pad_edge=False)
    for one in account.differences[:DIFFERENCES_SHOWN]:
        names = (one.grant_id, one.tenant_id, f"{one.billed:,}", f"{one.charged:,}", one.because)
        table.add_row(*(printable(name) for name in names))
    if len(account.differences) > DIFFERENCES_SHOWN:
        table.caption = say(
            "and {more} more; --json has all of them",
            more=len(account.differences) - DIFFERENCES_SHOWN,
        )
    return table


def _charges(account: Account) -> Table:
    """Days on which the charges in Postgres differ from those of the ledger."""
    table = Table(
        *said("DAY", "TENANT", "LEDGER", "POSTGRES", "MISSING", "EXTRA", "ON THE WAY"), box=None, pad_edge=False
    )
    for one in account.charges[:DIFFERENCES_SHOWN]:
        counts = (one.tokens_ledger, one.tokens_postgres, one.missing, one.extra, one.under_way)
        table.add_row(one.day, printable(one.tenant_id), *(f"{count:,}" for count in counts))
    if len(account.charges) > DIFFERENCES_SHOWN:
        table.caption = say("and {more} more; --json has all of them", more=len(account.charges) - DIFFERENCES_SHOWN)
    return table
