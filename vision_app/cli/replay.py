"""`vision replay`: sends recorded inputs again."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime

import click

from vision_app.cli.times import MOMENT, milliseconds
from vision_app.operations.connections import postgres_of, run, s3_of
from vision_app.operations.costs import Cost, Prices
from vision_app.operations.inputs import (
    Input,
    Selection,
    cost_of,
    from_rows,
    parse_offsets,
    recorded,
    send_again,
    within_topic,
)
from vision_app.operations.kafka_log import KafkaSender, kafka_log, kafka_sender
from vision_app.operations.rows import RowFinder
from vision_app.printable import json_text
from vision_app.settings import Settings, load_settings
from vision_app.texts import say
from vision_app.topics import UPLOADED

SHOWN_POSTS = 20
AT_ONCE = 100


@dataclass(frozen=True)
class _Wish:
    since: datetime | None
    until: datetime | None
    offsets: tuple[str, ...]
    provider: str | None
    tenant_id: str | None
    post_id: str | None


@click.command()
@click.option("--since", type=MOMENT, help="Inputs recorded since then: 2h, 1d, 2026-11-22T18:00 (UTC).")
@click.option("--until", type=MOMENT, help="Inputs recorded before then; default: now.")
@click.option("--offsets", multiple=True, help=f"partition:first-last of {UPLOADED.name}; may be repeated.")
@click.option(
    "--provider",
    type=click.Choice(["ocr_fallback", "gigachat"]),
    help="Posts with a medium answered by this provider; --since and --until then mean when.",
)
@click.option("--tenant", "tenant_id", help="Only this tenant's.")
@click.option("--post", "post_id", help="Only this post's.")
@click.option("--force", is_flag=True, help="Ask again about media that are answered or in work, too.")
@click.option("--dry-run", is_flag=True, help="Only say how many, and how many tokens it may cost.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def replay(
    since: datetime | None,
    until: datetime | None,
    offsets: tuple[str, ...],
    provider: str | None,
    tenant_id: str | None,
    post_id: str | None,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Send recorded inputs again, chosen by time, offsets or provider.

    Without --force only media without an answer of the current version are asked about; stored answers are free in both
    cases. --provider ocr_fallback implies --force: an answer by OCR counts as an answer.
    """
    wish = _Wish(since, until, offsets, provider, tenant_id, post_id)
    _check(wish)
    force = force or provider == "ocr_fallback"
    selection, cost = run(_replay(load_settings(), wish, force, dry_run))
    if as_json:
        click.echo(json_text(_as_json(selection, cost, force, dry_run)))
        return
    for one in selection.inputs[:SHOWN_POSTS]:
        click.echo(f"{one.origin}: {one.event.tenant_id!a} {one.event.post_id!a}")
    if (more := len(selection.inputs) - SHOWN_POSTS) > 0:
        click.echo(say("… and {more} more", more=more))
    if selection.unreadable:
        click.echo(
            say("{unreadable} cannot be read; see `vision dlq ls --error Unreadable`.", unreadable=selection.unreadable)
        )
    count, posts = len(selection.inputs), selection.posts
    click.echo(
        say("Would send {count} inputs of {posts} posts; {cost}.", count=count, posts=posts, cost=cost)
        if dry_run
        else say("Sent {count} inputs of {posts} posts; {cost}.", count=count, posts=posts, cost=cost)
    )


def _check(wish: _Wish) -> None:
    if wish.offsets and (wish.provider or wish.since or wish.until):
        raise click.UsageError(say("--offsets says it all; leave out --since, --until and --provider"))
    if not (wish.offsets or wish.provider or wish.since or wish.post_id):
        raise click.UsageError(say("say which inputs: --since, --offsets, --provider or --post"))


async def _replay(settings: Settings, wish: _Wish, force: bool, dry_run: bool) -> tuple[Selection, Cost]:
    selection = await (_of_rows(settings, wish) if wish.provider else _of_topic(settings, wish))
    async with AsyncExitStack() as stack:
        s3 = await stack.enter_async_context(s3_of(settings))
        cost = await cost_of(Prices(settings, s3), selection, force)
        if not dry_run and selection.inputs:
            sender = await stack.enter_async_context(kafka_sender(settings))
            await _send(sender, selection.inputs, force)
    return selection, cost


async def _of_rows(settings: Settings, wish: _Wish) -> Selection:
    async with postgres_of(settings) as pool:
        rows = await RowFinder(pool).by_provider(wish.provider or "", wish.tenant_id, wish.since, wish.until)
    return from_rows([row for row in rows if wish.post_id in (None, row["post_id"])])


async def _of_topic(settings: Settings, wish: _Wish) -> Selection:
    async with kafka_log(settings) as kafka:
        if wish.offsets:
            stretches = await within_topic(kafka, parse_offsets(wish.offsets))
        else:
            places = kafka.partitions([UPLOADED.name])
            stretches = await kafka.between(places, milliseconds(wish.since), milliseconds(wish.until))
        return await recorded(
            kafka,
            stretches,
            default_tenant=settings.s3_default_tenant_id,
            tenant_id=wish.tenant_id,
            post_id=wish.post_id,
        )


async def _send(sender: KafkaSender, inputs: list[Input], force: bool) -> None:
    """Send in batches, one post's records one after the other, so that a post's events keep their order."""
    by_key: dict[bytes | None, list[Input]] = {}
    for one in inputs:
        by_key.setdefault(one.key, []).append(one)
    slots = asyncio.Semaphore(AT_ONCE)

    async def in_order(posts: list[Input]) -> None:
        async with slots:
            for one in posts:
                await send_again(sender, one, force)

    async with asyncio.TaskGroup() as group:
        for posts in by_key.values():
            group.create_task(in_order(posts))


def _as_json(selection: Selection, cost: Cost, force: bool, dry_run: bool) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "force": force,
        "inputs": len(selection.inputs),
        "posts": selection.posts,
        "repeated": selection.repeated,
        "unreadable": selection.unreadable,
        "cost": vars(cost),
        "origins": [one.origin for one in selection.inputs],
    }
