"""What looking at pictures cost, and what was saved: the arithmetic behind `vision cost`, the API and the page.

Tokens spent are exact: each charge of each ledger. What a cached answer saved is what that answer cost once, exact as
well. What policy, OCR and deferral saved was never measured, so it is estimated: the mean of a charged call in the same
time, times the pictures. Money is tokens by the price of their model in VISION_PRICES.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from vision_app.stores.costs import CostReader, Dimension, Period, Saved, Spent

ESTIMATED = ("policy", "ocr", "deferred")
"""Ways of saving whose tokens are estimated."""
WAYS = ("cache", "single_flight", *ESTIMATED)

Prices = Mapping[str, Decimal]
"""Model → roubles per 1,000 tokens."""


@dataclass(frozen=True)
class SavedHow:
    """Pictures that cost nothing for one reason, and the tokens they would have cost."""

    how: str
    media: int
    tokens: int
    estimated: bool


@dataclass(frozen=True)
class CostRow:
    """One group. `money` in roubles; None if a model of the group has no price."""

    group: str
    calls: int
    tokens: int
    cut_off_tokens: int
    money: Decimal | None
    saved: tuple[SavedHow, ...] = ()


@dataclass(frozen=True)
class Month:
    """The calendar month (UTC) so far, and at its end if it goes on at the same pace."""

    name: str
    tokens: int
    money: Decimal | None
    forecast_tokens: int
    forecast_money: Decimal | None


@dataclass(frozen=True)
class CostReport:
    """Rows with the dearest first, their sum, and the month. `unpriced`: models without a price."""

    by: Dimension
    since: datetime
    until: datetime
    rows: list[CostRow]
    total: CostRow
    month: Month
    unpriced: list[str] = field(default_factory=list)


async def take_cost(reader: CostReader, prices: Prices, by: Dimension, of: Period, now: datetime) -> CostReport:
    """The report of a time. Raises what asyncpg raises."""
    spent, saved = await reader.spent(by, of), await reader.saved(by, of)
    start, end = month_of(now)
    so_far = await reader.spent("model", Period(start, now, of.tenant_id))
    return report(by, of, spent, saved, prices, month(so_far, prices, start, end, now))


def report(
    by: Dimension, of: Period, spent: Sequence[Spent], saved: Sequence[Saved], prices: Prices, this_month: Month
) -> CostReport:
    """The rows and their sum. Pure."""
    calls = sum(one.calls for one in spent)
    mean = round(sum(one.tokens for one in spent) / calls) if calls else 0
    groups = list(dict.fromkeys([one.group for one in spent] + [one.group for one in saved]))
    rows = []
    for group in groups:
        own, its_saved = [one for one in spent if one.group == group], [one for one in saved if one.group == group]
        rows.append(_row(group, own, its_saved, prices, mean))
    rows.sort(key=lambda row: (row.group,) if by == "day" else (-row.tokens, row.group))
    unpriced = sorted({one.model for one in spent if price_of(one.model, prices) is None and one.tokens})
    return CostReport(by, of.since, of.until, rows, _row("", spent, saved, prices, mean), this_month, unpriced)


def month(so_far: Sequence[Spent], prices: Prices, start: datetime, end: datetime, now: datetime) -> Month:
    """The month so far, and linearly to its end. Pure."""
    tokens, money = sum(one.tokens for one in so_far), money_of(so_far, prices)
    elapsed = max((now - start).total_seconds(), 1.0)
    factor = Decimal((end - start).total_seconds()) / Decimal(elapsed)
    forecast = None if money is None else rounded(money * factor)
    return Month(f"{start:%Y-%m}", tokens, money, round(tokens * float(factor)), forecast)


def month_of(now: datetime) -> tuple[datetime, datetime]:
    """Start and end of the calendar month in UTC."""
    start = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    end = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    return start, end


def price_of(model: str, prices: Prices) -> Decimal | None:
    """The price of a model: of its full name, else of its name without the version (`GigaChat-Pro:2.0.30`)."""
    return prices.get(model, prices.get(model.partition(":")[0]))


def money_of(spent: Iterable[Spent], prices: Prices) -> Decimal | None:
    """Roubles; None if tokens were spent on a model without a price."""
    total = Decimal(0)
    for one in spent:
        price = price_of(one.model, prices)
        if price is None and one.tokens:
            return None
        total += (price or Decimal(0)) * one.tokens / 1000
    return rounded(total)


def rounded(money: Decimal) -> Decimal:
    """To kopecks."""
    return money.quantize(Decimal("0.01"))


def _row(group: str, spent: Sequence[Spent], saved: Sequence[Saved], prices: Prices, mean: int) -> CostRow:
    return CostRow(
        group=group,
        calls=sum(one.calls for one in spent),
        tokens=sum(one.tokens for one in spent),
        cut_off_tokens=sum(one.cut_off_tokens for one in spent),
        money=money_of(spent, prices),
        saved=tuple(_saved(how, [one for one in saved if one.how == how], mean) for how in WAYS),
    )


def _saved(how: str, of: Sequence[Saved], mean: int) -> SavedHow:
    media = sum(one.media for one in of)
    estimated = how in ESTIMATED
    return SavedHow(how, media, media * mean if estimated else sum(one.tokens for one in of), estimated)
