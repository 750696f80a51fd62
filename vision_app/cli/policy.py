"""`vision policy …`: is the policy file right, and what does it say of a given post."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import click
import orjson
from rich.console import Console
from rich.table import Table

from vision_app.domain.policy import Context, Explanation, Policy, PolicyError, explain
from vision_app.events import Unreadable, read_json
from vision_app.settings import Settings, load_settings
from vision_app.stores.policy_file import default_policy_path, read_policy

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
        click.echo(f"{path}: note: {note}")
    click.echo(f"{path}: correct")


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
        raise click.ClickException(f"the event cannot be read: {fault}; give one as on the input stream") from fault
    explanations = explain(policy, post, context=Context(quota_exhausted, spent_today))
    if as_json:
        click.echo(orjson.dumps([_as_json(explanation) for explanation in explanations]))
        return
    console = Console(markup=False, highlight=False, emoji=False)  # the texts are other people's
    if not explanations:
        console.print("The event lists no media.")
    for number, explanation in enumerate(explanations, 1):
        console.print(_as_table(number, explanation))


def _path(file: Path | None, settings: Settings) -> Path:
    return file or settings.vision_policy_config_path or default_policy_path()


def _read(path: Path) -> Policy:
    try:
        return read_policy(path)
    except PolicyError as fault:
        raise click.ClickException(f"the policy cannot be used\n{fault}") from fault


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
        f"analyze, prompt {verdict.prompt_key}"
        if verdict.analyze
        else f"skip: {verdict.reason} / {verdict.details['policy_name']}"
    )
    table = Table(
        "rule",
        "",
        "says",
        title=_printable(f"{number}. {medium.mime_type}, {medium.size_bytes} bytes, sha256 {medium.sha256[:12]}"),
        title_justify="left",
        caption=f"→ {outcome}",
        caption_justify="left",
    )
    for check in explanation.checks:
        table.add_row(check.rule, "no" if check.policy_name else "ok", _printable(check.text))
    return table


def _printable(text: str) -> str:
    """Without control characters, which could steer the operator's terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
