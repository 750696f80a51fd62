"""`vision posts --stuck`: which posts hang, since when, and what they wait for."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta

import click
from rich.console import Console
from rich.table import Table

from vision_app.cli.times import DURATION, printable
from vision_app.operations.connections import api_of, postgres_of, run
from vision_app.operations.waiting import Stuck
from vision_app.operations.waiting import stuck as find_stuck
from vision_app.printable import json_text
from vision_app.settings import Settings, load_settings
from vision_app.stores.posts import PostsReader
from vision_app.texts import said, say

EXIT_FOUND = 3
PIPE_WIDTH = 200


@click.command()
@click.option("--stuck", is_flag=True, help="Posts in work for longer than --older-than (the only listing so far).")
@click.option("--older-than", type=DURATION, default="5m", show_default=True, help="30s, 5m, 2h, 1d.")
@click.option("--tenant", "tenant_id", help="Only this tenant's.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="The oldest so many.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def posts(stuck: bool, older_than: timedelta, tenant_id: str | None, limit: int, as_json: bool) -> None:
    """Which posts hang, since when, and what they wait for. Exit code 0 if none hangs, 3 if some do."""
    if not stuck:
        raise click.UsageError(say("say which posts: --stuck; for one post `vision diag --post-id` and `vision trace`"))
    found = run(_stuck(load_settings(), older_than, tenant_id, limit))
    if as_json:
        click.echo(json_text([one.as_json() for one in found]))
    elif not found:
        click.echo(say("No post has been in work for longer than {older_than}.", older_than=older_than))
    else:
        width = None if sys.stdout.isatty() else PIPE_WIDTH
        Console(width=width, markup=False, highlight=False, emoji=False).print(_table(found))
        click.echo(
            say(
                "Next: vision trace POST shows where one stopped. What waits goes on by itself when its cause "
                "has gone, also after an outage of the provider. For posts that wait for nothing: vision "
                "replay --post POST"
            )
        )
    sys.exit(EXIT_FOUND if found else 0)


async def _stuck(settings: Settings, older_than: timedelta, tenant_id: str | None, limit: int) -> list[Stuck]:
    async with postgres_of(settings) as pool, api_of(settings) as api:
        return await find_stuck(PostsReader(pool), api, datetime.now(UTC) - older_than, tenant_id, limit)


def _table(found: list[Stuck]) -> Table:
    table = Table(*said("SINCE (UTC)", "FOR", "TENANT", "POST", "WAITS FOR"), box=None, pad_edge=False)
    for one in found:
        length = timedelta(seconds=round(time.time() - one.since.timestamp()))
        names = (one.row["tenant_id"], one.row["post_id"], one.waits)
        table.add_row(f"{one.since:%Y-%m-%d %H:%M:%S}", str(length), *(printable(name) for name in names))
    return table
