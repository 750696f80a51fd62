"""`vision publish`: test posts on an input stream."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

import click

from vision_app.operations.connections import run
from vision_app.operations.publishing import Batch
from vision_app.operations.publishing import publish as publish_posts
from vision_app.printable import json_text
from vision_app.settings import load_settings
from vision_app.texts import say


@click.command()
@click.option("--count", type=click.IntRange(min=1), default=1, show_default=True, help="How many posts.")
@click.option(
    "--type",
    "wish",
    type=click.Choice(["valid", "missing", "poison", "mixed"]),
    default="valid",
    show_default=True,
    help="With their picture; without its object; unreadable; or 60 %, 30 % and 10 % of these.",
)
@click.option("--tenant-id", help="Default: S3_DEFAULT_TENANT_ID.")
@click.option("--post-id-prefix", "prefix", default="p-test", show_default=True, help="Ids are PREFIX-0001 and so on.")
@click.option("--parallel", is_flag=True, help="All at once instead of ten a second.")
@click.option("--stream", help="Default: the first of VISION_INPUT_STREAMS.")
@click.option("--s3-key", help="The object of valid posts (must be there), or of missing ones (must not).")
@click.option("--sha256", help="The picture's sha256 as the events tell it; default: the true one.")
@click.option(
    "--poison-as",
    "poison",
    type=click.Choice(["unreadable", "missing-key"]),
    default="unreadable",
    show_default=True,
    help="What poison is: an entry cut in the middle, or, as in the assistant's own script, one without its object.",
)
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def publish(
    count: int,
    wish: Any,
    tenant_id: str | None,
    prefix: str,
    parallel: bool,
    stream: str | None,
    s3_key: str | None,
    sha256: str | None,
    poison: Any,
    as_json: bool,
) -> None:
    """Publish test posts. All valid ones list the same picture; their trace ids are t-test-0001 and so on."""
    settings = load_settings()
    batch = Batch(
        count=count,
        wish=wish,
        tenant_id=tenant_id or settings.s3_default_tenant_id,
        prefix=prefix,
        stream=stream or settings.input_streams[0],
        parallel=parallel,
        poison=poison,
        s3_key=s3_key,
        sha256=sha256,
    )
    sent = run(publish_posts(settings, batch))
    if as_json:
        click.echo(json_text([asdict(one) for one in sent]))
        return
    for one in sent:
        click.echo(f"{one.entry_id} {one.post_id} {one.trace_id} {one.kind}")
    by_kind = ", ".join(f"{number} {kind}" for kind, number in Counter(one.kind for one in sent).items())
    click.echo(
        say(
            "Published {count} posts to {stream}: {by_kind}. Next: vision trace {post_id}",
            count=len(sent),
            stream=batch.stream,
            by_kind=by_kind,
            post_id=sent[-1].post_id,
        )
    )
