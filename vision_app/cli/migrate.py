"""`vision migrate status|apply|repair|refill`: checks and restores, without a worker, what a worker makes at start."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import click

from vision_app.kafka_topics import TopicsUnfit, unfit
from vision_app.operations import foundations
from vision_app.operations.connections import OperationError, run
from vision_app.printable import json_text, printable
from vision_app.settings import Settings, load_settings
from vision_app.stack.errors import StackError
from vision_app.stores.repair import Repair, Schema
from vision_app.texts import noted, say

EXIT_UNSOUND = 1
PARTS = ("postgres", "kafka", "s3")
REFILL = noted("`vision migrate refill` writes the results that Kafka still has once more, free and unannounced")
ROWS_OF = {
    "post_enrichment": REFILL,
    "media_objects": REFILL,
    "post_media_map": REFILL,
    "token_charges": noted("`vision migrate refill` writes the charges that Kafka still has once more, and results"),
    "budget_actions": noted("set the limits and pauses again (`vision budget set`, `vision pause`)"),
    "dead_letter_actions": noted("letters dealt with are listed once more by `vision dlq ls`"),
    "tenant_storage_usage": noted("the next listing of the bucket fills it (S3_RECOUNT_INTERVAL_MINUTES)"),
    "storage_state": noted("the next listing of the bucket fills it (S3_RECOUNT_INTERVAL_MINUTES)"),
    "expired_objects": noted("what was expired is no longer marked; nothing else is lost"),
}
"""How the rows of a table that was made again can be restored."""


@click.group()
def migrate() -> None:
    """Check tables, topics and bucket, and put back what is missing.

    A worker makes all of them when it starts. These commands are for when something was dropped since then.
    """


_only = click.option("--only", "parts", type=click.Choice(PARTS), multiple=True, help="Look at this alone.")


@migrate.command()
@_only
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def status(parts: tuple[str, ...], as_json: bool) -> None:
    """Show what is missing or was changed. Exit code 1 if there is anything. Changes nothing."""
    settings = load_settings()
    found = {part: _inspect_part(part, settings) for part in parts or PARTS}
    if as_json:
        click.echo(json_text({part: {"facts": facts, "faults": faults} for part, (facts, faults) in found.items()}))
    else:
        for part, (facts, faults) in found.items():
            _print_section(part, facts)
            _print_section(say("{part}: NOT AS IT SHOULD BE", part=part), faults)
    sys.exit(EXIT_UNSOUND if any(faults for _, faults in found.values()) else 0)


@migrate.command()
def apply() -> None:
    """Apply the migrations that are not applied yet, as a worker does when it starts.

    With DATABASE_OWNER_URL also grant the user of DATABASE_URL the rights that a worker needs. Exit code 1 if some of
    them could not be granted.
    """
    settings = load_settings()
    names = run(foundations.apply(settings))
    click.echo(say("Applied {names}.", names=", ".join(names)) if names else say("There is nothing to apply."))
    lines, refused = _grant_rights(settings)
    _print_section("postgres", [*lines, *refused])
    sys.exit(EXIT_UNSOUND if refused else 0)


@migrate.command()
@_only
def repair(parts: tuple[str, ...]) -> None:
    """Put back what is missing. Existing things are never changed, and rows of a dropped table do not come back.

    May run beside workers. Exit code 1 if something could not be put back.
    """
    settings, failed = load_settings(), False
    for part in parts or PARTS:
        try:
            failed |= not _repair_part(part, settings)
        except StackError as fault:  # the other parts may be repaired nevertheless
            click.echo(printable(f"{part}: {fault}"), err=True)
            failed = True
    sys.exit(EXIT_UNSOUND if failed else 0)


@migrate.command()
def refill() -> None:
    """Fill tables that were made again with the results that Kafka still has (KAFKA_RETENTION_DAYS).

    No provider is asked, nothing is charged and nothing announced. A newer row is never replaced, so it may run at any
    time.
    """
    told = run(foundations.refill(load_settings()))
    click.echo(say("Wrote {written} results once more.", written=told.written))
    if told.refused:
        click.echo(
            printable(
                say("{refused} could not be written, the first: {reason}", refused=told.refused, reason=told.reason)
            ),
            err=True,
        )
        sys.exit(EXIT_UNSOUND)


# --- looking ----------------------------------------------------------------------------------------------------------


def _inspect_part(part: str, settings: Settings) -> tuple[list[str], list[str]]:
    """What is right, and what is wrong, each fault with the next step."""
    try:
        match part:
            case "postgres":
                return _tables(run(foundations.schema(settings)))
            case "kafka":
                return _topics(settings)
            case _:
                if run(foundations.has_bucket(settings)):
                    return [say("bucket {s3_bucket} is there", s3_bucket=settings.s3_bucket)], []
                return [], [
                    say(
                        "there is no bucket {s3_bucket}; `vision migrate repair` makes it", s3_bucket=settings.s3_bucket
                    )
                ]
    except StackError as fault:
        return [], [str(fault)]


def _tables(schema: Schema) -> tuple[list[str], list[str]]:
    if schema.is_new:
        return [], [
            say("no table of ours was ever made; `vision migrate apply` makes them, or the worker when it starts")
        ]
    facts = [
        say("{name}: applied {at:%Y-%m-%d %H:%M:%S} UTC", name=one.name, at=one.at)
        for one in schema.migrations
        if one.at
    ]
    faults = list(schema.faults)
    faults += [
        say("{name} is not applied; `vision migrate apply`, or the worker when it starts", name=name)
        for name in schema.pending
    ]
    faults += [say("{one}; `vision migrate repair` puts it back", one=one) for one in schema.missing]
    faults += [say("{one}; correct it by hand: it is never changed by us", one=one) for one in schema.other]
    if schema.ledger_lost:
        faults.append(say("table schema_migrations is missing; `vision migrate repair` puts it back"))
    if schema.is_sound:
        facts.append(say("all tables, columns, constraints and indexes are there"))
    return facts, faults


def _topics(settings: Settings) -> tuple[list[str], list[str]]:
    found = run(foundations.topics(settings))
    faults = [say("topic {name} is missing; `vision migrate repair` makes it", name=name) for name in found.missing]
    faults += [unfit(name, count, settings) for name, count in found.other_count.items()]
    return ([] if faults else [say("all topics of ours are there")]), faults


def _print_section(heading: str, lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(printable(f"{heading}: {line}"))


# --- mending ----------------------------------------------------------------------------------------------------------


def _repair_part(part: str, settings: Settings) -> bool:
    """Repair one part. Returns whether it is complete now."""
    match part:
        case "postgres":
            return _repair_tables(settings)
        case "kafka":
            try:
                made = run(foundations.make_topics(settings))
            except TopicsUnfit as fault:
                raise OperationError(str(fault)) from fault
            _print_section(part, _describe_topics(made))
        case _:
            made_it = run(foundations.make_bucket(settings))
            _print_section(
                part,
                [
                    say(
                        "bucket {s3_bucket} was {state}",
                        s3_bucket=settings.s3_bucket,
                        state=say("made anew, and is empty") if made_it else "there",
                    )
                ],
            )
    return True


def _repair_tables(settings: Settings) -> bool:
    failed = False
    if run(foundations.schema(settings)).is_new:
        _print_section("postgres", [say("{name} applied", name=name) for name in run(foundations.apply(settings))])
    else:
        outcome = run(foundations.repair_schema(settings))
        _print_section("postgres", _describe_outcome(outcome))
        failed = bool(outcome.failed)
    lines, refused = _grant_rights(settings)
    _print_section("postgres", [*lines, *refused])
    return not (failed or refused)


def _grant_rights(settings: Settings) -> tuple[list[str], list[str]]:
    """Grant the worker its rights: what was done, and what could not be."""
    role, refused = run(foundations.grant(settings))
    lines = [say("{role} may use the tables", role=role)] if role and not refused else []
    return lines, [
        say("NOT granted: run as the owner of the database: {statement}", statement=statement) for statement in refused
    ]


def _describe_outcome(outcome: Repair) -> list[str]:
    told = [one for one in outcome.done if one.kind == "table" or one.table not in outcome.emptied]
    lines = [say("put back: {one}", one=one.subject) for one in told]
    lines += [
        say("{table} is empty: {remedy}", table=table, remedy=say(ROWS_OF[table]))
        for table in outcome.emptied
        if table in ROWS_OF
    ]
    lines += [
        say(
            "put back for new rows only, since rows that are there break it: {name} of {table}; when they are "
            "mended: ALTER TABLE {table} VALIDATE CONSTRAINT {name}",
            name=one.name,
            table=one.table,
        )
        for one in outcome.only_new_rows
    ]
    lines += [say("put back: the record of migrations (schema_migrations)")] if outcome.ledger_rewritten else []
    lines += [
        say("NOT put back: {one}: {why}; mend the rows, then run this again", one=one, why=why)
        for one, why in outcome.failed
    ]
    return lines or [say("nothing is missing")]


def _describe_topics(made: Sequence[str]) -> list[str]:
    if not made:
        return [say("no topic is missing")]
    return [
        say("topics made anew, empty: {made}", made=", ".join(made)),
        say(
            "what was in them is gone: restart the workers (`vision down`, `vision up`), then `vision audit` "
            "tells which posts have no ending and `vision replay` sends inputs again"
        ),
    ]
