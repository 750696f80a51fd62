"""Makes docs/hostile-inputs.md from the corpora: `python -m tests.hostile_table` after a change of one of them.

What is listed as seen is what the tests see: test_hostile_pictures.py runs every picture, test_hostile_text.py every
text. Verdicts of texts are those of the reader itself.
"""

from __future__ import annotations

from pathlib import Path

from tests.hostile_pictures import CASES, SENT, Case
from tests.hostile_texts import TEXTS
from vision_app.domain.answer import read_answer

PAGE = Path(__file__).parents[1] / "docs" / "hostile-inputs.md"
HEAD = Path(__file__).with_name("hostile_inputs.md")

_SENT = "sent: encoded anew, nothing else in it"
_AS_IT_IS = "sent as it is"


def page() -> str:
    """The page: the text of `hostile_inputs.md` with the tables in their places."""
    text = HEAD.read_text("utf-8")
    return text.replace("{pictures}", pictures()).replace("{texts}", texts())


def pictures() -> str:
    head = "| case | declared | expected | seen |\n|---|---|---|---|\n"
    return head + "".join(f"| {case.name} | {case.declared} | {_told(case)} | the same |\n" for case in CASES)


def texts() -> str:
    head = "| text | read, as the whole answer | in every field | changed besides |\n|---|---|---|---|\n"
    return head + "".join(f"| {name} | {_verdict(text)} | kept as data | nothing |\n" for name, text in TEXTS.items())


def _told(case: Case) -> str:
    if case.expected != SENT:
        return f"failed: `{case.expected}`"
    return _AS_IT_IS if case.declared.startswith("application/vnd") else _SENT


def _verdict(text: str) -> str:
    reading = read_answer(text.encode("utf-8", "replace").decode())
    kind = f", {reading.analysis.classification}" if reading.analysis else ""
    return f"{reading.verdict}{kind}"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
