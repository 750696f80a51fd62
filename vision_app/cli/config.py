"""`vision config`: the effective configuration, secrets hidden, and where each value comes from."""

from __future__ import annotations

import sys

import click
from pydantic import BaseModel, SecretStr
from rich.console import Console
from rich.table import Table

from vision_app.printable import json_text
from vision_app.settings import Settings, load_settings, misspelt, sources, without_effect
from vision_app.stack.plan import without_password
from vision_app.texts import said, say

HIDDEN = "********"
SECRET_URLS = ("redis_url", "database_url", "database_owner_url", "database_session_url")
"""URLs in which only the password is secret."""


class Value(BaseModel):
    """One setting, safe to show."""

    variable: str
    value: str
    source: str


@click.command()
@click.option("--json", "machine_readable", is_flag=True, help="For scripts.")
def config(machine_readable: bool) -> None:
    """The effective configuration and where each value comes from. Secrets are hidden."""
    values = effective(load_settings())
    if machine_readable:
        document = {v.variable: {"value": v.value, "source": v.source} for v in values}
        click.echo(json_text(document))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in said("VARIABLE", "VALUE", "FROM"):
        table.add_column(heading, overflow="fold")
    for value in values:
        table.add_row(value.variable, value.value, value.source)
    Console(width=None if sys.stdout.isatty() else 200).print(table, markup=False)
    for name, reason in without_effect().items():
        click.echo(say("{name} is set but has no effect: {reason}", name=name, reason=reason), err=True)
    for name, meant in misspelt().items():
        click.echo(
            say("{name} is set and no setting has this name; {meant} is meant?", name=name, meant=meant), err=True
        )


def effective(settings: Settings) -> list[Value]:
    """Every setting, secrets as asterisks when set and empty when not."""
    origin = sources()
    return [
        Value(variable=name.upper(), value=_shown(name, getattr(settings, name)), source=origin[name])
        for name in Settings.model_fields
    ]


def _shown(name: str, value: object) -> str:
    if name in SECRET_URLS and isinstance(value, SecretStr):
        return without_password(value.get_secret_value())
    if isinstance(value, SecretStr):
        return HIDDEN if value.get_secret_value() else ""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
