"""`vision cost`: what looking at pictures cost, and what was not spent."""

from __future__ import annotations

import csv
import io
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import get_args

import click
from rich.console import Console
from rich.table import Table

from vision_app.cli.times import MOMENT, printable
from vision_app.operations.connections import OperationError, postgres_of, run
from vision_app.operations.cost import WAYS, CostReport, CostRow, month_of, take_cost
from vision_app.printable import json_text
from vision_app.settings import Settings, load_settings, parse_prices
from vision_app.stores.costs import CostReader, Dimension, Period
from vision_app.texts import noted, said, say

DIMENSIONS = get_args(Dimension)
PIPE_WIDTH = 160
TITLES = {
    "cache": noted("CACHE"),
    "single_flight": noted("SAME TIME"),
    "policy": noted("POLICY*"),
    "ocr": noted("OCR*"),
    "deferred": noted("DEFERRED*"),
}
GROUPS = {
    "tenant": noted("TENANT"),
    "channel": noted("CHANNEL"),
    "model": noted("MODEL"),
    "kind": noted("KIND"),
    "day": noted("DAY"),
}


@click.command()
@click.option("--by", type=click.Choice(DIMENSIONS), default="tenant", show_default=True, help="How to group.")
@click.option("--since", type=MOMENT, help="From then on: 1d, 2026-11-01 (UTC); default: this month.")
@click.option("--until", type=MOMENT, help="Before then; default: now.")
@click.option("--tenant", help="Only this tenant.")
@click.option("--csv", "as_csv", is_flag=True, help="For a table calculation.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def cost(
    by: Dimension, since: datetime | None, until: datetime | None, tenant: str | None, as_csv: bool, as_json: bool
) -> None:
    """What was spent, in tokens and roubles, and what was not spent and why.

    Tokens are those of the ledgers, to the token as in `vision audit`. VISION_PRICES gives the roubles.
    """
    now = datetime.now(UTC)
    of = Period(since or month_of(now)[0], until or now, tenant)
    if of.since >= of.until:
        raise OperationError(say("--since must be earlier than --until"))
    settings = load_settings()
    found = run(_take(settings, by, of, now))
    if as_json:
        click.echo(json_text(as_dict(found)))
    elif as_csv:
        click.echo(as_csv_text(found), nl=False)
    else:
        _show(found)


async def _take(settings: Settings, by: Dimension, of: Period, now: datetime) -> CostReport:
    async with postgres_of(settings) as pool:
        reader = CostReader(pool, settings.gigachat_vision_model)
        return await take_cost(reader, parse_prices(settings.vision_prices), by, of, now)


def as_dict(found: CostReport) -> dict[str, object]:
    """Ready for JSON: times in ISO 8601, money as text with two decimals."""

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        if isinstance(value, datetime):
            return value.isoformat()
        return str(value) if isinstance(value, Decimal) else value

    whole = plain(asdict(found))
    assert isinstance(whole, dict)  # noqa: S101 - of a dataclass
    return whole


def as_csv_text(found: CostReport) -> str:
    """One line a group, without the sum."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [f"saved_{how}_{what}" for how in WAYS for what in ("media", "tokens")]
    writer.writerow([found.by, "calls", "tokens", "cut_off_tokens", "roubles", *names])
    for row in found.rows:
        saved = [value for one in row.saved for value in (one.media, one.tokens)]
        money = "" if row.money is None else row.money
        writer.writerow([_safe(row.group), row.calls, row.tokens, row.cut_off_tokens, money, *saved])
    return text.getvalue()


def _safe(text: str) -> str:
    """A name that a table calculation does not take for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _show(found: CostReport) -> None:
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, markup=False, highlight=False, emoji=False)
    table = Table(say(GROUPS[found.by]), *said("CALLS", "TOKENS", "CUT OFF", "ROUBLES"), box=None, pad_edge=False)
    for how in WAYS:
        table.add_column(say("SAVED: {how}", how=say(TITLES[how])), justify="right")
    for column in table.columns[1:5]:
        column.justify = "right"
    for row in [*found.rows, found.total]:
        table.add_row(*_cells(row))
    console.print(table)
    month = found.month
    money = (
        ""
        if month.money is None
        else say(
            ", {money} roubles; at this pace {forecast_money}", money=month.money, forecast_money=month.forecast_money
        )
    )
    click.echo(
        say(
            "{name} so far: {tokens:,} tokens; at this pace {forecast_tokens:,} at its end{money}.",
            name=month.name,
            tokens=month.tokens,
            forecast_tokens=month.forecast_tokens,
            money=money,
        )
    )
    click.echo(
        say("Saved tokens with * are estimates: pictures times the mean of a call. SAME TIME: one call for several.")
    )
    if found.unpriced:
        click.echo(
            say(
                "Without a price, so roubles are not known: {unpriced}. Set VISION_PRICES.",
                unpriced=", ".join(found.unpriced),
            )
        )


def _cells(row: CostRow) -> list[str]:
    saved = [f"{one.tokens:,} ({one.media})" if one.media else "–" for one in row.saved]
    money = "?" if row.money is None else f"{row.money:,}"
    name = printable(row.group) if row.group else say("together")
    return [name, f"{row.calls:,}", f"{row.tokens:,}", f"{row.cut_off_tokens:,}", money, *saved]
