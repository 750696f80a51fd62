"""`vision upload FILE`: put a picture into the bucket as a producer does."""

from __future__ import annotations

from pathlib import Path

import click

from vision_app.operations.connections import run
from vision_app.operations.storage import upload_file
from vision_app.printable import json_text
from vision_app.settings import load_settings


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--tenant", "tenant_id", help="Whose picture it is; default: S3_DEFAULT_TENANT_ID.")
@click.option("--mime", "mime_type", help="Its type; default: told from its content.")
def upload(file: Path, tenant_id: str | None, mime_type: str | None) -> None:
    """Store FILE once under its SHA-256, if there is room; print it in the form of an event's `media_files`.

    Exit code 0: it is stored, now or earlier (`deduplicated`); 1: refused, with the reason.
    """
    settings = load_settings()
    done = run(upload_file(settings, tenant_id or settings.s3_default_tenant_id, file, mime_type))
    medium = done.medium.model_dump(include={"sha256", "s3_key", "mime_type", "size_bytes"})
    shown = {**medium, "tenant_id": tenant_id or settings.s3_default_tenant_id, "deduplicated": done.deduplicated}
    click.echo(json_text(shown))
