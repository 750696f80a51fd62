"""`vision storage …`: usage and limits of the bucket, its objects, and clean-up.

Exit code 0: shown or done; 1: failed, and the text says what to do; 3: cleaned up, but still above the target.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from vision_app.cli.times import printable
from vision_app.domain.storage import CLEANED, Aim
from vision_app.operations.connections import run
from vision_app.operations.storage import ListedObject, list_objects, run_cleanup, usage_and_state
from vision_app.printable import json_text
from vision_app.retention.accounts import sum_usages
from vision_app.retention.cleanup import Report
from vision_app.retention.limits import gib
from vision_app.settings import Settings, load_settings
from vision_app.stores.keys import account_of
from vision_app.texts import said, say
from vision_app.web.storage_answers import stats_of

EXIT_SHORT = 3
PIPE_WIDTH = 200

_json = click.option("--json", "as_json", is_flag=True, help="For scripts.")
_type = click.option("--type", "content_type", type=click.Choice(sorted(CLEANED)), help="Only objects of this type.")
_dry = click.option("--dry-run", is_flag=True, help="Say what would go; delete nothing.")


@click.group()
def storage() -> None:
    """Show usage and limits of the bucket; clean it up. GB are GiB (1024^3 bytes)."""


@storage.command()
@click.argument("tenant", required=False)
@_json
def quota(tenant: str | None, as_json: bool) -> None:
    """Usage and limit of the bucket, or of TENANT."""
    settings = load_settings()
    usages, status = run(usage_and_state(settings))
    own = usages.get(account_of(tenant)) if tenant else sum_usages(usages)
    limit = settings.s3_per_tenant_limit_gb if tenant else settings.s3_total_limit_gb
    total = gib(own.total_bytes) if own else 0.0
    shown = {
        **({"tenant_id": tenant} if tenant else {}),
        "total_gb": total,
        "limit_gb": limit,
        "usage_percent": round(100 * total / limit, 2),
        "by_type": {name: gib(size) for name, size in sorted(own.size_bytes.items())} if own else {},
        "objects": own.total_objects if own else 0,
        "counted_at": status["counted_at"],
    }
    if as_json:
        _dump(shown)
        return
    whose = printable(tenant) if tenant else say("bucket")
    click.echo(
        say(
            "{whose}: {total} of {limit:g} GB ({usage_percent} %), {objects} objects",
            whose=whose,
            total=_gb(total),
            limit=limit,
            usage_percent=shown["usage_percent"],
            objects=shown["objects"],
        )
    )
    _print_types(settings, shown["by_type"], tenant is None)
    click.echo(say("counted: {counted_at}", counted_at=_when(status["counted_at"])))


@storage.command()
@_json
def stats(as_json: bool) -> None:
    """Usage, limits, rules, the largest tenants; when the bucket was counted and cleaned up."""
    settings = load_settings()
    answer = stats_of(settings, *run(usage_and_state(settings)))
    if as_json:
        click.echo(answer.model_dump_json(indent=2, exclude={"trace_id"}))
        return
    current, limits = answer.current, answer.limits
    click.echo(
        say(
            "bucket: {total_gb} of {limit_gb:g} GB ({usage_percent} %)",
            total_gb=_gb(current.total_gb),
            limit_gb=current.limit_gb,
            usage_percent=current.usage_percent,
        )
    )
    _print_types(settings, current.by_type, True)
    click.echo(
        say(
            "clean-up: above {emergency_threshold_gb:g} GB down to {cleanup_target_gb:g} GB; a tenant may hold "
            "{per_tenant_max_gb:g} GB",
            emergency_threshold_gb=limits.emergency_threshold_gb,
            cleanup_target_gb=limits.cleanup_target_gb,
            per_tenant_max_gb=limits.per_tenant_max_gb,
        )
    )
    kept = (
        say("{name} {days:g} days", name=name, days=getattr(answer.policies, f"{name}_ttl_days"))
        for name in sorted(CLEANED)
    )
    click.echo(say("kept: {kept}", kept=", ".join(kept)))
    due = say("; one is due") if answer.cleanup_due else ""
    click.echo(
        say(
            "counted: {counted_at}; cleaned up: {cleaned_at}{due}",
            counted_at=_when(answer.counted_at),
            cleaned_at=_when(answer.cleaned_at),
            due=due,
        )
    )
    table = Table(*said("TENANT", "GB", "OBJECTS"), box=None, pad_edge=False)
    for share in answer.largest_tenants:
        table.add_row(printable(share.tenant_id) or "(nobody)", _gb(share.usage_gb), str(share.objects))
    _console().print(table)


@storage.command("ls")
@click.option("--tenant", "tenant_id", help="Only what this tenant pays for.")
@click.option("--type", "content_type", type=click.Choice(["album", "crawl", "media", "other", "vision"]))
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="The first so many, by key.")
@_json
def list_bucket(tenant_id: str | None, content_type: str | None, limit: int, as_json: bool) -> None:
    """The objects in the bucket now: tenant, type, size, age."""
    found = run(_first(load_settings(), tenant_id, content_type, limit))
    if as_json:
        _dump([vars(one) for one in found])
        return
    table = Table(*said("KEY", "TENANT", "TYPE", "BYTES", "MODIFIED (UTC)"), box=None, pad_edge=False)
    for one in found:
        table.add_row(
            *(printable(text) for text in (one.key, one.tenant_id, one.content_type)),
            str(one.size_bytes),
            _when(one.modified_at),
        )
    _console().print(table)
    if len(found) == limit:
        click.echo(say("there may be more than these {limit}: --limit, --tenant, --type", limit=limit))


@storage.command()
@click.option("--free", "free_gb", type=click.FloatRange(min=0), help="Until so many GB of the limit are free.")
@_type
@_dry
@_json
def cleanup(free_gb: float | None, content_type: str | None, dry_run: bool, as_json: bool) -> None:
    """Delete expired objects, and objects above the limits of tenants and bucket; never those that a post needs."""
    settings = load_settings()
    if free_gb is not None and free_gb > settings.s3_total_limit_gb:
        raise click.BadParameter(
            say("the whole bucket has {s3_total_limit_gb:g} GB", s3_total_limit_gb=settings.s3_total_limit_gb),
            param_hint="--free",
        )
    target = None if free_gb is None else round((settings.s3_total_limit_gb - free_gb) * 1024**3)
    _tell(run(run_cleanup(settings, Aim("manual", content_type, target), dry_run=dry_run)), as_json)


@storage.command()
@_type
@click.option("--delete", is_flag=True, help="Delete it; without this, only say what would go.")
@_json
def ttl(content_type: str | None, delete: bool, as_json: bool) -> None:
    """Only objects older than the TTL of their type."""
    _tell(run(run_cleanup(load_settings(), Aim("ttl", content_type), dry_run=not delete)), as_json)


async def _first(settings: Settings, tenant_id: str | None, content_type: str | None, limit: int) -> list[ListedObject]:
    found: list[ListedObject] = []
    async for one in list_objects(settings, tenant_id, content_type):
        found.append(one)
        if len(found) == limit:
            break
    return found


def _tell(report: Report, as_json: bool) -> None:
    if as_json:
        _dump(_as_json(report))
    else:
        _print(report)
    sys.exit(EXIT_SHORT if report.shortfall_bytes else 0)


def _print(report: Report) -> None:
    figures: dict[str, object] = {
        "listed": report.listed,
        "count": report.deleted_count,
        "size": _gb(gib(report.freed_bytes)),
        "seconds": report.seconds,
    }
    click.echo(
        say("listed {listed} objects; would delete {count} ({size} GB) in {seconds:.1f} s", **figures)
        if report.dry_run
        else say("listed {listed} objects; deleted {count} ({size} GB) in {seconds:.1f} s", **figures)
    )
    for reason, of_reason in groupby(sorted(report.deleted, key=lambda place: place[::-1]), key=lambda place: place[1]):
        parts = [f"{kind} {report.deleted[kind, reason]}" for kind, _ in of_reason]
        click.echo(f"  {reason}: {', '.join(parts)}")
    kept = ", ".join(
        say("{why} {size} GB", why=why, size=_gb(gib(size))) for why, size in sorted(report.protected.items())
    )
    if kept:
        click.echo(say("protected: {kept}", kept=kept))
    if report.shortfall_bytes:
        click.echo(
            say(
                "the target is missed by {shortfall_bytes} GB: what is left is protected or too young; raise "
                "S3_TOTAL_LIMIT_GB, or see docs/storage.md",
                shortfall_bytes=_gb(gib(report.shortfall_bytes)),
            )
        )


def _as_json(report: Report) -> dict[str, Any]:
    return {
        "dry_run": report.dry_run,
        "listed": report.listed,
        "deleted_count": report.deleted_count,
        "freed_gb": gib(report.freed_bytes),
        "freed": [
            {"content_type": kind, "reason": reason, "count": count, "gb": gib(report.freed[kind, reason])}
            for (kind, reason), count in sorted(report.deleted.items())
        ],
        "protected_gb": {why: gib(size) for why, size in report.protected.items()},
        "shortfall_gb": gib(report.shortfall_bytes),
        "duration_seconds": round(report.seconds, 3),
    }


def _print_types(settings: Settings, by_type: dict[str, float], limited: bool) -> None:
    limits = {name: getattr(settings, f"s3_{name}_max_gb") for name in CLEANED} if limited else {}
    for name, size in sorted(by_type.items()):
        click.echo(
            say(
                "  {name}: {size}{limit} GB",
                name=name,
                size=_gb(size),
                limit=say(" of {limit:g}", limit=limits[name]) if name in limits else "",
            )
        )


def _gb(size: float) -> str:
    return f"{size:.4f}" if size < 1 else f"{size:.2f}"


def _when(at: datetime | None) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if at else say("never")


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, markup=False, highlight=False, emoji=False)


def _dump(document: Any) -> None:
    click.echo(json_text(document))
