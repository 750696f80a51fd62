"""`vision dlq ls|show|replay|discard|take`: what could not be processed, and what to do about it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import click
import orjson
from rich.console import Console
from rich.table import Table

from vision_app.cli.times import MOMENT, clock, milliseconds, printable
from vision_app.messages import DeadLetter
from vision_app.operations.connections import OperationError, operator, postgres_of, redis_of, run, s3_of
from vision_app.operations.costs import Cost, Prices
from vision_app.operations.health import health
from vision_app.operations.kafka_log import kafka_log, kafka_sender
from vision_app.operations.letter_replay import LetterReplayPlan, LetterReplayPlanner, Senders, carry_out, cost_of
from vision_app.operations.letters import Actions, Filter, ListedLetter, read_letters
from vision_app.operations.stuck_record import WAIT_SECONDS, StuckRecord, find_stuck_record, set_aside
from vision_app.printable import json_text
from vision_app.settings import Settings, load_settings
from vision_app.stores.base import SinkUnavailable
from vision_app.stores.posts import PostsReader
from vision_app.streams.letter_ids import ids_of
from vision_app.texts import said, say

EXIT_INCOMPLETE = 1
EXIT_NOT_YET = 3
PIPE_WIDTH = 220
SHOWN_REASON = 90

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def dlq() -> None:
    """Dead letters: show, replay or discard them; set a record aside that holds up its partition.

    Letters that were replayed or discarded are hidden; --all shows them.
    """


def _filters(command: Command) -> Command:
    options = [
        click.option("--id", "ids", multiple=True, help="This letter; may be repeated."),
        click.option("--origin", help="From this topic or Redis stream."),
        click.option("--error", help="With this error class, for example unreadable."),
        click.option("--since", type=MOMENT, help="Written since then: 2h, 1d, 2026-11-22T18:00 (UTC)."),
        click.option("--tenant", help="Of this tenant."),
        click.option("--all", "everything", is_flag=True, help="Also those replayed or discarded already."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _filter(
    ids: Sequence[str], origin: str | None, error: str | None, since: datetime | None, tenant: str | None
) -> Filter:
    return Filter(ids=ids, origin=origin, error=error, tenant_id=tenant, since_ms=milliseconds(since))


@dlq.command()
@_filters
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: one letter a line, whole.")
def ls(
    ids: tuple[str, ...],
    origin: str | None,
    error: str | None,
    since: datetime | None,
    tenant: str | None,
    everything: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List dead letters, the newest last. Exit code 0 also when there are none."""
    found = run(_listed(load_settings(), _filter(ids, origin, error, since, tenant), everything))
    shown = found[-limit:]
    if as_json:
        for listed in shown:
            click.echo(json_text(_as_json(listed), indent=False))
        return
    if not found:
        click.echo(
            say("No dead letters.")
            if everything
            else say("No dead letters that wait for a decision (--all: every one).")
        )
        return
    _console().print(_table(shown))
    more = (
        say(" ({count} older ones not shown; --limit)", count=len(found) - len(shown))
        if len(found) > len(shown)
        else ""
    )
    click.echo(
        say(
            "{count} letters{more}. Next: vision dlq show ID, vision dlq replay --id ID --dry-run",
            count=len(shown),
            more=more,
        )
    )


@dlq.command()
@click.argument("letter_id")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def show(letter_id: str, as_json: bool) -> None:
    """Show one letter whole, and what was done with it."""
    listed = _single_letter(run(_listed(load_settings(), Filter(ids=(letter_id,)), True)), letter_id)
    if as_json:
        click.echo(json_text(_as_json(listed)))
        return
    for name, value in _as_json(listed).items():
        if value not in (None, "", {}, []) and name not in ("type", "value"):
            click.echo(f"{name}: {printable(clock(value) if name.endswith('_ms') else str(value))}")
    click.echo(say("value:\n{pretty}", pretty=printable(_pretty(listed.letter))))


@dlq.command()
@_filters
@click.option("--again", is_flag=True, help="Also letters that came back after two replays.")
@click.option("--every", is_flag=True, help="Without any filter: all that wait for a decision.")
@click.option("--dry-run", is_flag=True, help="Only say what would be sent where, and what it may cost.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def replay(
    ids: tuple[str, ...],
    origin: str | None,
    error: str | None,
    since: datetime | None,
    tenant: str | None,
    everything: bool,
    again: bool,
    every: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Send letters again: to their origin, or to the step before the budget if they had reached the budget.

    Exit code 1 if a chosen letter could not be replayed.
    """
    chosen = _require_filter(_filter(ids, origin, error, since, tenant), every)
    plans, cost, places = run(_replay(load_settings(), chosen, everything, again, dry_run))
    if as_json:
        click.echo(json_text(_plans_as_json(plans, cost, places)))
    else:
        for plan in plans:
            click.echo(printable(_plan_line(plan, places)))
        sent = sum(plan.way is not None for plan in plans)
        count = len(plans)
        click.echo(
            say("Would replay {sent} of {count} letters; {cost}.", sent=sent, count=count, cost=cost)
            if dry_run
            else say("Replayed {sent} of {count} letters; {cost}.", sent=sent, count=count, cost=cost)
        )
    _check_named(ids, [plan.letter for plan in plans])
    sys.exit(EXIT_INCOMPLETE if any(plan.way is None for plan in plans) else 0)


@dlq.command()
@_filters
@click.option("--every", is_flag=True, help="Without any filter: all that wait for a decision.")
@click.option("--dry-run", is_flag=True, help="Only say which.")
def discard(
    ids: tuple[str, ...],
    origin: str | None,
    error: str | None,
    since: datetime | None,
    tenant: str | None,
    everything: bool,
    every: bool,
    dry_run: bool,
) -> None:
    """Mark letters as done. They stay on the topic until its retention ends (--all shows them)."""
    chosen = _require_filter(_filter(ids, origin, error, since, tenant), every)
    letters = run(_discard(load_settings(), chosen, everything, dry_run))
    for letter in letters:
        click.echo(printable(f"{letter.id}: {letter.error}"))
    click.echo(
        say("Would discard {count} letters.", count=len(letters))
        if dry_run
        else say("Discarded {count} letters.", count=len(letters))
    )
    _check_named(ids, letters)


@dlq.command()
@click.argument("place")
@click.option("--reason", required=True, help="Why; stands in the letter.")
@click.option("--wait", "seconds", type=click.FloatRange(min=0), default=WAIT_SECONDS, show_default=True)
@click.option("--dry-run", is_flag=True, help="Only say what the record is, who holds it and what follows.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def take(place: str, reason: str, seconds: float, dry_run: bool, as_json: bool) -> None:
    """Set a record aside that holds up its partition: it becomes a dead letter and the rest goes on.

    PLACE is topic-partition-offset, or stream-id for an entry of an input stream, as GET /readyz, `vision doctor` and
    the log name it. The worker that has it cancels the handling; after a restart the handling does not start again.
    Exit code 3: marked, but no worker has set it aside within --wait seconds; a worker does so as soon as it gets the
    record.
    """
    record, done = run(_take(load_settings(), place, reason, seconds, dry_run))
    if as_json:
        click.echo(json_text({**record.as_json(), "dry_run": dry_run, "set_aside": done}))
    else:
        click.echo(printable(_stuck_record_text(record, dry_run, done)))
    sys.exit(0 if dry_run or done else EXIT_NOT_YET)


# --- the work ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _LetterAccess:
    """What every command here needs."""

    listed: list[ListedLetter]
    actions: Actions
    pool: Any


@asynccontextmanager
async def _open_letters(settings: Settings, wanted: Filter, everything: bool) -> AsyncIterator[_LetterAccess]:
    async with postgres_of(settings) as pool, kafka_log(settings) as kafka:
        actions = Actions(pool)
        await actions.open()
        listed = await actions.with_history(await read_letters(kafka, wanted))
        yield _LetterAccess([one for one in listed if everything or one.done is None], actions, pool)


async def _listed(settings: Settings, wanted: Filter, everything: bool) -> list[ListedLetter]:
    try:
        async with _open_letters(settings, wanted, everything) as access:
            return access.listed
    except SinkUnavailable as fault:
        click.echo(say("All letters are shown, also those dealt with already: {fault}", fault=fault), err=True)
    async with kafka_log(settings) as kafka:
        return [ListedLetter(letter) for letter in await read_letters(kafka, wanted)]


async def _replay(
    settings: Settings, wanted: Filter, everything: bool, again: bool, dry_run: bool
) -> tuple[list[LetterReplayPlan], Cost, dict[str, str]]:
    async with AsyncExitStack() as stack:
        access = await stack.enter_async_context(_open_letters(settings, wanted, everything))
        plans = await LetterReplayPlanner(settings, PostsReader(access.pool)).plans(access.listed, again=again)
        cost = await cost_of(Prices(settings, await stack.enter_async_context(s3_of(settings))), plans)
        if dry_run:
            return plans, cost, {}
        redis = await stack.enter_async_context(redis_of(settings))
        sender = await stack.enter_async_context(kafka_sender(settings))
        to, who = Senders(redis, sender, access.actions), operator()
        places = {plan.letter.id: await carry_out(plan, to, who) for plan in plans if plan.way}
        return plans, cost, places


async def _take(settings: Settings, place: str, reason: str, seconds: float, dry_run: bool) -> tuple[StuckRecord, bool]:
    async with redis_of(settings) as redis, kafka_log(settings) as kafka:
        record = await find_stuck_record(settings, place, kafka, redis, await health(settings))
        if dry_run:
            return record, False
        return record, await set_aside(record, redis, kafka, reason, operator(), seconds)


async def _discard(settings: Settings, wanted: Filter, everything: bool, dry_run: bool) -> list[DeadLetter]:
    async with _open_letters(settings, wanted, everything) as access:
        letters = [one.letter for one in access.listed]
        if not dry_run:
            await asyncio.gather(*(access.actions.record(letter, "discarded", operator()) for letter in letters))
        return letters


def _require_filter(wanted: Filter, every: bool) -> Filter:
    if not wanted and not every:
        raise click.UsageError(say("say which letters: --id, --origin, --error, --since, --tenant, or --every"))
    return wanted


def _check_named(ids: Sequence[str], letters: Sequence[DeadLetter]) -> None:
    found = {letter.id for letter in letters}
    if missing := [name for name in ids if name not in found]:
        raise OperationError(
            say("no such letter waits: {missing}; `vision dlq ls --all` lists every one", missing=", ".join(missing))
        )


def _single_letter(found: Sequence[ListedLetter], letter_id: str) -> ListedLetter:
    if not found:
        raise OperationError(
            say("there is no letter {letter_id}; `vision dlq ls --all` lists every one", letter_id=letter_id)
        )
    return found[-1]


# --- how it is shown --------------------------------------------------------------------------------------------------


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, markup=False, highlight=False, emoji=False)


def _table(shown: Sequence[ListedLetter]) -> Table:
    table = Table(*said("ID", "AT (UTC)", "TENANT", "POST", "ERROR", "TRIES", "REASON"), box=None, pad_edge=False)
    for listed in shown:
        letter = listed.letter
        tries = f"{letter.attempts}" + (say(" +{replays} replays", replays=listed.replays) if listed.replays else "")
        state = f"[{listed.done}] " if listed.done else ""
        ids = ids_of(letter)
        row = (letter.id, clock(letter.last_seen_ms), ids.get("tenant_id"), ids.get("post_id"), letter.error, tries)
        table.add_row(*(printable(text or "-") for text in row), state + printable(letter.reason)[:SHOWN_REASON])
    return table


def _stuck_record_text(record: StuckRecord, dry_run: bool, done: bool) -> str:
    whose = (
        say(" of post {post_id} of {tenant_id}", post_id=record.post_id, tenant_id=record.tenant_id)
        if record.post_id
        else ""
    )
    lines = [
        f"{record.place}: {record.what}{whose}",
        say("held by {holder}", holder=record.holder),
        say("{records_behind} records of its partition come after it", records_behind=record.records_behind),
        say("would follow: {consequence}", consequence=say(record.consequence))
        if dry_run
        else say("follows: {consequence}", consequence=say(record.consequence)),
    ]
    if dry_run:
        lines.append(say("Would set it aside: the same command without --dry-run."))
    elif done:
        lines.append(say("Set aside. Next: vision dlq show {place}", place=record.place))
    else:
        lines.append(
            say(
                "Marked, and not set aside yet: it is as soon as a worker gets it. If a worker holds it and "
                "does not let go, restart that worker; `vision status` shows what runs."
            )
        )
    return "\n".join(lines)


def _as_json(listed: ListedLetter) -> dict[str, Any]:
    return {**listed.letter.model_dump(mode="json"), "done": listed.done, "replays_of_its_like": listed.replays}


def _pretty(letter: DeadLetter) -> str:
    if letter.value is None:
        return f"(base64) {letter.value_base64}"
    try:
        return orjson.dumps(orjson.loads(letter.value), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        return letter.value


def _plan_line(plan: LetterReplayPlan, places: dict[str, str]) -> str:
    if plan.way is None:
        return say("{id}: not replayed: {refused}", id=plan.letter.id, refused=plan.refused)
    where = places.get(plan.letter.id) or plan.way.destination
    whole = say(" as the whole post") if plan.way.whole_post else ""
    return f"{plan.letter.id} → {where}{whole}" + (
        say(" (warning: {warning})", warning=plan.warning) if plan.warning else ""
    )


def _plans_as_json(plans: Sequence[LetterReplayPlan], cost: Cost, places: dict[str, str]) -> dict[str, Any]:
    return {
        "letters": [
            {
                "id": plan.letter.id,
                "destination": plan.way.destination if plan.way else None,
                "whole_post": bool(plan.way and plan.way.whole_post),
                "sent": places.get(plan.letter.id),
                "refused": plan.refused or None,
                "warning": plan.warning or None,
            }
            for plan in plans
        ],
        "cost": {**vars(cost)},
    }
