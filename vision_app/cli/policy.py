"""`vision policy …`: checks the policy file, and shows its verdicts on a given post."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import click
from rich.console import Console
from rich.table import Table

from vision_app.cli.times import MOMENT, milliseconds
from vision_app.domain.policy import Context, Explanation, Policy, PolicyError, explain
from vision_app.events import Unreadable, read_json
from vision_app.operations.connections import run
from vision_app.operations.inputs import Selection, recorded
from vision_app.operations.kafka_log import kafka_log
from vision_app.operations.policy_trial import Trial, compare
from vision_app.printable import json_text
from vision_app.settings import Settings, load_settings
from vision_app.stores.policy_file import default_policy_path, read_policy
from vision_app.texts import say
from vision_app.topics import UPLOADED

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group("policy")
def policy_group() -> None:
    """Which media are analyzed: check the policy file, explain its verdicts."""


@policy_group.command()
@click.argument("file", type=_FILE, required=False)
def check(file: Path | None) -> None:
    """Check FILE, or the policy in use. Exit code 1 and one line per fault if it cannot be used."""
    path = _path(file, load_settings())
    policy = _read(path)
    for note in policy.notes():
        click.echo(say("{path}: note: {note}", path=path, note=note))
    click.echo(say("{path}: correct", path=path))


@policy_group.command("explain")
@click.argument("event", type=click.File("rb"))
@click.option("--policy", "file", type=_FILE, help="Another policy than the one in use.")
@click.option("--quota-exhausted", is_flag=True, help="As if the tenant's budget were spent.")
@click.option("--spent-today", type=click.IntRange(min=0), help="As if the tenant had spent so many tokens today.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def explain_command(
    event: BinaryIO, file: Path | None, quota_exhausted: bool, spent_today: int | None, as_json: bool
) -> None:
    """Show every rule's verdict on each medium of the uploaded post in EVENT, a JSON file (- for stdin)."""
    settings = load_settings()
    policy = _read(_path(file, settings))
    try:
        post = read_json(event.read(), default_tenant=settings.s3_default_tenant_id)
    except Unreadable as fault:
        raise click.ClickException(
            say("the event cannot be read: {fault}; give one as on the input stream", fault=fault)
        ) from fault
    explanations = explain(policy, post, context=Context(quota_exhausted, spent_today))
    if as_json:
        click.echo(json_text([_as_json(explanation) for explanation in explanations], indent=False))
        return
    console = Console(markup=False, highlight=False, emoji=False)  # the event's texts may be hostile
    if not explanations:
        console.print(say("The event lists no media."))
    for number, explanation in enumerate(explanations, 1):
        console.print(_as_table(number, explanation))


@policy_group.command("dry-run")
@click.option("--policy", "file", type=_FILE, required=True, help="The policy to try.")
@click.option("--since", type=MOMENT, help="Inputs recorded since then: 2h, 1d, 2026-11-22T18:00 (UTC); default: all.")
@click.option("--tenant", "tenant_id", help="Only this tenant's.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def dry_run(file: Path, since: datetime | None, tenant_id: str | None, as_json: bool) -> None:
    """Run recorded inputs through another policy and say what would change: which media, at most how many tokens."""
    settings = load_settings()
    now, then = _read(_path(None, settings)), _read(file)
    selection = run(_recorded(settings, since, tenant_id))
    trial = compare((one.event for one in selection.inputs), now, then, settings)
    if as_json:
        click.echo(json_text(_trial_as_json(trial)))
        return
    click.echo(
        say(
            "{media} media of {posts} recorded inputs; {changed} would change.",
            media=trial.media,
            posts=trial.posts,
            changed=sum(trial.changed.values()),
        )
    )
    for (before, after), count in sorted(trial.changed.items()):
        click.echo(f"{count:>7}  {before} -> {after}")
    change = trial.tokens_then - trial.tokens_now
    click.echo(
        say(
            "Tokens at most: {tokens_now} now, {tokens_then} then ({change:+}).",
            tokens_now=trial.tokens_now,
            tokens_then=trial.tokens_then,
            change=change,
        )
    )


async def _recorded(settings: Settings, since: datetime | None, tenant_id: str | None) -> Selection:
    async with kafka_log(settings) as kafka:
        stretches = await kafka.between(kafka.partitions([UPLOADED.name]), milliseconds(since), None)
        return await recorded(kafka, stretches, default_tenant=settings.s3_default_tenant_id, tenant_id=tenant_id)


def _trial_as_json(trial: Trial) -> dict[str, Any]:
    return {
        "inputs": trial.posts,
        "media": trial.media,
        "changed": [{"now": now, "then": then, "media": count} for (now, then), count in sorted(trial.changed.items())],
        "tokens_at_most": {"now": trial.tokens_now, "then": trial.tokens_then},
    }


def _path(file: Path | None, settings: Settings) -> Path:
    return file or settings.vision_policy_config_path or default_policy_path()


def _read(path: Path) -> Policy:
    try:
        return read_policy(path)
    except PolicyError as fault:
        raise click.ClickException(say("the policy cannot be used\n{fault}", fault=fault)) from fault


def _as_json(explanation: Explanation) -> dict[str, Any]:
    return {
        "medium": explanation.medium.model_dump(mode="json", exclude_none=True),
        "verdict": explanation.verdict.model_dump(mode="json"),
        "rules": [
            {"rule": check.rule, "text": check.text, "policy_name": check.policy_name} for check in explanation.checks
        ],
    }


def _as_table(number: int, explanation: Explanation) -> Table:
    medium, verdict = explanation.medium, explanation.verdict
    outcome = (
        say("analyze, prompt {prompt_key}", prompt_key=verdict.prompt_key)
        if verdict.analyze
        else say("skip: {reason} / {policy_name}", reason=verdict.reason, policy_name=verdict.details["policy_name"])
    )
    table = Table(
        say("rule"),
        "",
        say("says"),
        title=_printable(
            say(
                "{number}. {mime_type}, {size_bytes} bytes, sha256 {sha256}",
                number=number,
                mime_type=medium.mime_type,
                size_bytes=medium.size_bytes,
                sha256=medium.sha256[:12],
            )
        ),
        title_justify="left",
        caption=f"→ {outcome}",
        caption_justify="left",
    )
    for check in explanation.checks:
        table.add_row(check.rule, say("no") if check.policy_name else say("ok"), _printable(check.text))
    return table


def _printable(text: str) -> str:
    """Without control characters, which could control the operator's terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
