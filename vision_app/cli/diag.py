"""`vision diag`: what is known of a post, counts, and whether a file would be analyzed."""

from __future__ import annotations

import hashlib
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import puremagic
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from vision_app.cli.times import printable
from vision_app.domain.policy import PolicyError, explain
from vision_app.messages import Medium, Uploaded
from vision_app.operations.connections import OperationError, run
from vision_app.operations.diagnosis import Diagnosis, diagnose, diagnose_letters, statistics
from vision_app.operations.waiting import reason_of
from vision_app.printable import json_text
from vision_app.providers.pictures import estimate_tokens
from vision_app.settings import Settings, load_settings
from vision_app.stores.keys import media_key
from vision_app.stores.policy_file import default_policy_path, read_policy
from vision_app.texts import noted, said, say

EXIT_DENIED = 3
PIPE_WIDTH = 160
FIELDS = {
    "Tenant": noted("Tenant"),
    "Post": noted("Post"),
    "Status": noted("Status"),
    "Analyzed At": noted("Analyzed At"),
    "Provider": noted("Provider"),
    "Model": noted("Model"),
    "Tokens Used": noted("Tokens Used"),
    "Is Meme": noted("Is Meme"),
    "Has Classification": noted("Has Classification"),
    "Has Description": noted("Has Description"),
    "Has OCR": noted("Has OCR"),
    "S3 Keys Count": noted("S3 Keys Count"),
    "Trace ID": noted("Trace ID"),
    "Error": noted("Error"),
    "Waits For": noted("Waits For"),
    "Dead Letter": noted("Dead Letter"),
    "Next": noted("Next"),
    "File": noted("File"),
    "Size": noted("Size"),
    "MIME": noted("MIME"),
    "SHA256": noted("SHA256"),
    "S3 Key": noted("S3 Key"),
    "Allowed": noted("Allowed"),
    "Reason": noted("Reason"),
    "Routing": noted("Routing"),
    "Tokens At Most": noted("Tokens At Most"),
}


@click.group(invoke_without_command=True)
@click.option("--db-url", envvar="DATABASE_URL", help="Another database than the configured one.")
@click.option("--redis-url", envvar="REDIS_URL", help="Another Redis than the configured one.")
@click.option("--tenant-id", help="Only this tenant; S3_DEFAULT_TENANT_ID for `test`.")
@click.option("--post-id", help="The same as `check --post-id`.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@click.pass_context
def diag(
    ctx: click.Context,
    db_url: str | None,
    redis_url: str | None,
    tenant_id: str | None,
    post_id: str | None,
    as_json: bool,
) -> None:
    """What is known of a post (--post-id), counts (stats), whether a file would be analyzed (test)."""
    given = {"database_url": db_url, "redis_url": redis_url}
    settings = load_settings(**{name: SecretStr(url) for name, url in given.items() if url})
    ctx.obj = (settings, tenant_id)
    if ctx.invoked_subcommand is None:
        if post_id is None:
            raise click.UsageError(say("say what: --post-id ID, stats, or test --media-file FILE"))
        _check(settings, post_id, tenant_id, as_json)


@diag.command()
@click.option("--post-id", required=True)
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@click.pass_obj
def check(about: tuple[Settings, str | None], post_id: str, as_json: bool) -> None:
    """What is known of a post. Exit code 0 also for an unknown post, 1 if a service cannot be read."""
    settings, tenant_id = about
    _check(settings, post_id, tenant_id, as_json)


@diag.command()
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@click.pass_obj
def stats(about: tuple[Settings, str | None], as_json: bool) -> None:
    """Lengths of the streams, pending entries, objects and bytes in S3."""
    counts = run(statistics(*about))
    if as_json:
        _json(counts)
        return
    table = Table(*said("WHAT", "COUNT"), box=None, pad_edge=False)
    for name, length in counts["streams"].items():
        table.add_row(say("{name} length", name=name), str(length))
    for name, group in counts["groups"].items():
        idle = (
            say(" (the oldest idle for {oldest_idle_seconds:.0f} s)", oldest_idle_seconds=group["oldest_idle_seconds"])
            if group["oldest_idle_seconds"]
            else ""
        )
        table.add_row(say("{name} pending", name=name), f"{group['pending']}{idle}")
        table.add_row(say("{name} not read yet", name=name), "-" if group["unread"] is None else str(group["unread"]))
    for kind, usage in counts["s3"].items():
        table.add_row(
            f"S3 {kind}",
            say(
                "{objects} objects, {bytes} bytes, {gb} GB",
                objects=usage["objects"],
                bytes=usage["bytes"],
                gb=usage["gb"],
            ),
        )
    _console().print(table)
    for usage in counts["s3"].values():
        for key in usage["samples"]:
            click.echo(f"  {printable(key)}")


@diag.command()
@click.option("--media-file", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@click.pass_obj
def test(about: tuple[Settings, str | None], media_file: Path, as_json: bool) -> None:
    """Whether a file would be analyzed, and how. Sends nothing. Exit code 0 if it would, 3 if not."""
    settings, tenant_id = about
    verdict = _judged(settings, tenant_id or settings.s3_default_tenant_id, media_file)
    if as_json:
        _json(verdict)
    else:
        _print(verdict)
    sys.exit(0 if verdict["Allowed"] else EXIT_DENIED)


def _check(settings: Settings, post_id: str, tenant_id: str | None, as_json: bool) -> None:
    found = run(diagnose(settings, post_id, tenant_id))
    letters = [] if found else run(diagnose_letters(settings, post_id, tenant_id))
    if as_json:
        _json(
            [one.fields() | {"classification": one.classification, "media": one.media} for one in found]
            + [letter.fields() for letter in letters]
        )
        return
    for letter in letters:
        _print({name: "-" if value is None else value for name, value in letter.fields().items()})
    if not found and not letters:
        click.echo(
            say(
                "No vision result for post {post_id}. It may be on its way: vision trace {post_id}",
                post_id=printable(post_id),
            )
        )
    for one in found:
        _show(one)


def _show(found: Diagnosis) -> None:
    unsaid = ("Error", "Waits For")
    fields = {name: value for name, value in found.fields().items() if name not in unsaid or value is not None}
    _print({name: "-" if value is None else value for name, value in fields.items()})
    if found.classification:
        click.echo(
            say("Classification: {classification}", classification=json_text(found.classification, indent=False))
        )
    if found.description:
        click.echo(say("Description: {description}", description=printable(found.description)))
    for medium in found.media:
        reason = f" ({reason_of(medium)})" if medium.get("reason") else ""
        click.echo(
            printable(
                say(
                    "Medium {sha256}: {status}{reason}, {key}",
                    sha256=medium["sha256"][:12],
                    status=medium["status"],
                    reason=reason,
                    key=medium.get("s3_key", ""),
                )
            )
        )


def _judged(settings: Settings, tenant_id: str, media_file: Path) -> dict[str, Any]:
    content = media_file.read_bytes()
    try:
        mime = puremagic.from_string(content, mime=True, filename=media_file.name)
    except (ValueError, puremagic.PureError):
        mime = "application/octet-stream"
    sha256, now = hashlib.sha256(content).hexdigest(), datetime.now(UTC)
    key = media_key(tenant_id, sha256, mime)
    medium = Medium(sha256=sha256, s3_key=key, mime_type=mime, size_bytes=len(content))
    event = Uploaded(
        trace_id="-", occurred_at=now, idempotency_key="-", tenant_id=tenant_id, post_id="-", media_files=[medium]
    )
    try:
        [found] = explain(read_policy(settings.vision_policy_config_path or default_policy_path()), event)
    except PolicyError as fault:
        raise OperationError(
            say("the policy cannot be used: {fault}; `vision policy check` says where", fault=fault)
        ) from fault
    verdict = found.verdict
    routing = say(
        "GigaChat, prompt {prompt_key}{fallback}",
        prompt_key=verdict.prompt_key,
        fallback=say(", OCR as fallback") if verdict.ocr_allowed else "",
    )
    return {
        "File": str(media_file),
        "Size": len(content),
        "MIME": mime,
        "SHA256": sha256,
        "S3 Key": key,
        "Allowed": verdict.analyze,
        "Reason": verdict.reason if verdict.analyze else f"{verdict.reason} / {verdict.details.get('policy_name')}",
        "Routing": routing if verdict.analyze else say("none"),
        "Tokens At Most": estimate_tokens(len(content), mime, settings) if verdict.analyze else 0,
    }


def _print(fields: dict[str, Any]) -> None:
    table = Table(*said("FIELD", "VALUE"), box=None, pad_edge=False)
    for name, value in fields.items():
        table.add_row(say(FIELDS[name]), printable(str(value).lower() if isinstance(value, bool) else str(value)))
    _console().print(table)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, markup=False, highlight=False, emoji=False)


def _json(document: Any) -> None:
    click.echo(json_text(document))
