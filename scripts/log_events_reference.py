"""Make docs/reference/log-events.md from vision_app/telemetry/log_events.py: `make reference`, if an event changes."""

from __future__ import annotations

from pathlib import Path

from vision_app.telemetry.log_events import CATALOGUE, LogEvent

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "log-events.md"
HEAD = """# Log events

Every text of the field `event` in our own log lines. Made from `vision_app/telemetry/log_events.py` by
`make reference`; `tests/unit/test_log_events.py` compares this page with it, and it with every log call.

Lines of libraries have other texts; their field `logger` names the library. The level is in the field `level`. A level
`error` that comes from an unexpected error has the traceback in `exception`. Some errors and warnings also have a field
`remedy` or `next_step` with the command for just this case. The names may change without notice, except the four
sentences of the acceptance guide ([stability.md](stability.md)).

If equal lines repeat within a minute, ten are written, then only their number (`repeated`).
"""


def page() -> str:
    """The whole page."""
    head = "| event | level | what it means | what to do |\n|---|---|---|---|\n"
    tables = (f"\n## {area}\n\n{head}{''.join(map(_row, events))}" for area, events in CATALOGUE.items())
    return HEAD + "".join(tables)


def _row(event: LogEvent) -> str:
    cells = (f"`{event.name}`", ", ".join(event.levels), event.meaning, event.remedy)
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
