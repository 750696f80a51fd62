"""`vision e2e`: the acceptance guide's end-to-end test."""

from __future__ import annotations

import secrets
import sys
import uuid
from pathlib import Path

import click

from vision_app.operations.connections import run
from vision_app.operations.e2e import Order, StepFailed, end_to_end
from vision_app.settings import load_settings
from vision_app.stack.errors import StackError

EXIT_FAILED = 1


@click.command()
@click.option("--post-id", help="Test with this post; default: a new one.")
@click.option(
    "--image",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Test with this picture; default: one of our own, made unique, so that GigaChat is really asked (and paid).",
)
@click.option("--tenant-id", help="Default: S3_DEFAULT_TENANT_ID.")
@click.option("--timeout", type=click.FloatRange(min=1), default=90, show_default=True, help="Seconds to wait at most.")
def e2e(post_id: str | None, image: Path | None, tenant_id: str | None, timeout: float) -> None:
    """Send one post through the whole pipeline and check every step (acceptance guide). Exit code 0 if all succeed."""
    settings = load_settings()
    order = Order(
        tenant_id=tenant_id or settings.s3_default_tenant_id,
        post_id=post_id or str(uuid.uuid4()),
        trace_id=f"e2e_test_{secrets.token_hex(8)}",
        image=image,
        wait_seconds=timeout,
    )
    try:
        run(end_to_end(settings, order, click.echo))
    except StepFailed as fault:
        _fail(str(fault), fault.remedy)
    except StackError as fault:
        _fail(str(fault), "vision up — запустить всё; vision doctor — найти причину")


def _fail(what: str, remedy: str) -> None:
    click.echo(f"  ❌ {what}")
    click.echo(f"  Что делать: {remedy}")
    click.echo("")
    click.echo("❌ E2E ТЕСТ НЕ ПРОЙДЕН")
    sys.exit(EXIT_FAILED)
