"""The texts of the commands: every one has a Russian version with the same values, and the right language is chosen."""

from __future__ import annotations

import ast
import io
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Formatter

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

import vision_app
from tests.unit.spoken import said_elsewhere
from vision_app import texts
from vision_app.cli import COMMANDS, main
from vision_app.cli.language import CLICK, choose, in_language, paragraphs
from vision_app.cli.trace import _show as show_trace
from vision_app.operations.trace import Trace
from vision_app.texts import UnknownLanguage, heard, language, language_of, say, use
from vision_app.texts.ru import RUSSIAN
from vision_app.texts.ru.forms import Forms

PACKAGE = Path(vision_app.__file__).parent
CYRILLIC = re.compile("[а-яё]", re.IGNORECASE)
CLICK_ONLY_WHEN_ASKED = {"required"}
"""What click translates by a variable, and not by a text in its code."""


@pytest.fixture(autouse=True)
def _english_again() -> Iterator[None]:
    yield
    use("en")


@dataclass(frozen=True)
class Said:
    """One text in a call of say, said or noted, with the names of the values given to it."""

    text: str
    values: frozenset[str]
    function: str
    place: str


@cache
def calls() -> list[tuple[ast.Call, str, str]]:
    """Each call of say, said or noted in the package, with the function's name and the place."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            if isinstance(node, ast.Call) and name in ("say", "said", "noted") and "texts" not in file.parts:
                found.append((node, name, f"{file.relative_to(PACKAGE)}:{node.lineno}"))
    return found


@cache
def used() -> list[Said]:
    found = []
    for node, name, place in calls():
        values = frozenset(keyword.arg or "**" for keyword in node.keywords)
        for argument in node.args:
            if isinstance(argument, ast.Constant):
                found.append(Said(str(argument.value), values, name, place))
    return found


def helps(command: click.Command) -> Iterator[str]:
    """Every text in the help of a command and of those below it."""
    yield from paragraphs(command.help or "")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield from paragraphs(parameter.help or "")
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from helps(below)


@cache
def clicks() -> frozenset[str]:
    """Every text that click's own modules give to gettext: of two forms the one for several."""
    found = set()
    for module in CLICK:
        for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text("utf-8"))):
            name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            if isinstance(node, ast.Call) and name in ("_", "ngettext"):
                text = node.args[name == "ngettext"]
                if isinstance(text, ast.Constant):
                    found.add(str(text.value))
    return frozenset(found)


def versions(text: str) -> tuple[str, ...]:
    found = RUSSIAN[text]
    return (found.one, found.few, found.many) if isinstance(found, Forms) else (found,)


def values_in(text: str) -> set[tuple[str, str | None, str | None]]:
    """Each `{name}` of a text with its conversion and format."""
    return {(name, conversion, spec) for _, name, spec, conversion in Formatter().parse(text) if name is not None}


# --- the catalogue ----------------------------------------------------------------------------------------------------


def test_every_text_of_the_code_has_a_russian_version() -> None:
    found = used()
    assert len(found) > 700
    assert not {(one.text, one.place) for one in found if one.text not in RUSSIAN}


def test_every_text_of_every_help_has_a_russian_version() -> None:
    found = [*helps(main), *(line for _, _, line in COMMANDS.values())]
    assert len(found) > 200
    assert not {text for text in found if text not in RUSSIAN}


def test_every_text_of_click_has_a_russian_version() -> None:
    found = {*clicks(), *CLICK_ONLY_WHEN_ASKED}
    assert len(found) > 40
    assert not {text for text in found if text not in RUSSIAN}


def test_there_is_no_russian_version_of_what_nobody_says() -> None:
    known = {one.text for one in used()} | set(helps(main)) | clicks() | CLICK_ONLY_WHEN_ASKED
    assert not RUSSIAN.keys() - known


@pytest.mark.parametrize("text", [text for text in RUSSIAN if "{" in text or "%(" in text])
def test_a_russian_version_has_the_same_values_in_the_same_format(text: str) -> None:
    singular = {("choice", None, ""), ("format", None, ""), ("possibility", None, "")}  # of click, beside the plural
    for version in versions(text):
        assert values_in(version) <= values_in(text) | singular
        if text not in clicks():
            assert values_in(version) == values_in(text)


def test_every_text_gets_the_values_that_it_names() -> None:
    wrong = []
    for one in used():
        named = {name for name, *_ in values_in(one.text)} if one.values else set()
        wrong += [one] if one.function == "say" and "**" not in one.values and named != one.values else []
    assert not wrong


def test_the_number_that_chooses_a_form_is_one_of_the_values() -> None:
    given = {one.text: one.values for one in used()}
    wrong = {
        text
        for text, found in RUSSIAN.items()
        if isinstance(found, Forms) and found.by not in given.get(text, frozenset({"n"}))
    }
    assert not wrong


def test_russian_versions_are_russian() -> None:
    same = {text for text in RUSSIAN if text in versions(text)}
    assert not {text for text in same if re.search("[a-z]{3} [a-z]{3}", text.replace("dead letter", ""))}
    assert not {text for text in RUSSIAN if text not in same and not any(map(CYRILLIC.search, versions(text)))}


def test_only_texts_and_constants_are_said() -> None:
    """A text that is put together has no version: its parts are values."""
    wrong = [place for node, _, place in calls() for one in node.args if isinstance(one, ast.JoinedStr | ast.BinOp)]
    assert not wrong


def test_the_covered_commands_say_nothing_in_another_way() -> None:
    assert not said_elsewhere(PACKAGE)


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        *((0, "0 писем"), (1, "1 письмо"), (2, "2 письма"), (4, "4 письма"), (5, "5 писем"), (11, "11 писем")),
        *((12, "12 писем"), (14, "14 писем"), (21, "21 письмо"), (22, "22 письма"), (100, "100 писем")),
        *((101, "101 письмо"), (111, "111 писем"), (112, "112 писем"), (1_000_003, "1000003 письма")),
    ],
)
def test_a_russian_text_has_the_form_that_its_number_asks_for(count: int, shown: str) -> None:
    use("ru")
    assert say("Discarded {count} letters.", count=count).endswith(f" {shown}.")


# --- which language ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "en"),
        ({"VISION_LANG": "ru"}, "ru"),
        ({"VISION_LANG": " RU "}, "ru"),
        ({"VISION_LANG": "", "LANG": "ru_RU.UTF-8"}, "ru"),
        ({"VISION_LANG": "en", "LANG": "ru_RU.UTF-8"}, "en"),
        ({"LANG": "ru_RU.UTF-8"}, "ru"),
        ({"LC_MESSAGES": "ru_RU", "LANG": "C"}, "ru"),
        ({"LC_ALL": "C", "LANG": "ru_RU.UTF-8"}, "en"),
        ({"LC_ALL": "", "LANG": "ru"}, "ru"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
    ],
)
def test_the_language_is_that_of_the_variable_else_of_the_locale(environment: dict[str, str], expected: str) -> None:
    assert language_of(environment) == expected


def test_an_unknown_language_is_an_error_that_says_what_to_set() -> None:
    with pytest.raises(UnknownLanguage, match="VISION_LANG is 'de'; set it to ru or en"):
        language_of({"VISION_LANG": "de", "LANG": "ru_RU"})
    result = CliRunner().invoke(main, ["status"], env={"VISION_LANG": "de"})
    assert result.exit_code == 2
    assert "set it to ru or en" in result.output


def test_what_a_script_reads_is_english() -> None:
    choose({"VISION_LANG": "ru"}, ["status", "--json"])
    assert language() == "en"
    result = CliRunner().invoke(main, ["replay", "--json"], env={"VISION_LANG": "ru"})
    assert "Error: say which inputs" in result.output


def test_help_and_errors_are_in_the_language() -> None:
    russian, english = {"VISION_LANG": "ru"}, {"VISION_LANG": "en"}
    for arguments, said in (
        (["--help"], ("Использование:", "Команды", "Показать эту справку и выйти.", "Найти, что мешает")),
        (["dlq", "replay", "--help"], ("Параметры", "Отправить письма снова", "Этого тенанта.")),
        (["budget", "--help"], ("Очередь", "Задачи, которые ждут денег")),
        (["dlq", "replay"], ("Ошибка: укажите, какие письма", "Справка: ")),
        (["dlq", "ls", "--limit", "0"], ("Ошибка: Неверное значение", "не входит в диапазон")),
        (["trace", "x", "--since", "y"], ("— не время",)),
        (["unknown"], ("Нет команды 'unknown'",)),
        (["logs", "x"], ("лога x нет",)),
    ):
        shown = CliRunner().invoke(main, arguments, env=russian).output
        assert [text for text in said if text not in " ".join(shown.split())] in ([], ["Очередь"]), shown
        assert not CYRILLIC.search(CliRunner().invoke(main, arguments, env=english).output)


def test_a_wrong_setting_is_told_in_the_language() -> None:
    environment = {"VISION_LANG": "ru", "REDIS_SENTINELS": "a:1", "REDIS_SENTINEL_MASTER": ""}
    result = CliRunner().invoke(main, ["config"], env=environment)
    assert result.exit_code == 2
    assert "задайте имя, за которым следят Sentinel" in result.output


def test_help_of_a_command_is_translated_in_a_copy() -> None:
    use("ru")
    command = main.get_command(click.Context(main), "posts")
    assert command is not None
    assert CYRILLIC.search(command.help or "")
    use("en")
    again = main.get_command(click.Context(main), "posts")
    assert again is not None
    assert in_language(again) is again
    assert not CYRILLIC.search(again.help or "")


@pytest.mark.parametrize(("status", "shown"), [("ok", "ok"), ("skipped", "skipped"), ("no row", "строки нет")])
def test_a_status_is_the_same_in_every_language(status: str, shown: str) -> None:
    use("ru")
    written = io.StringIO()
    console = Console(file=written, width=200)
    show_trace(console, Trace("t", "p", "trace", status, []), traced=False)
    assert f"Пост p тенанта t, трасса trace: {shown}\n" in written.getvalue()


def test_a_name_within_a_sentence_of_others_stays_as_it_is() -> None:
    use("ru")
    assert heard("waiting for post") == "ждёт: post"


# --- what workers and the supervisor said -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("english", "russian"),
    [
        ("", ""),
        ("waiting for the API to answer", "ждёт: ответ API"),
        ("starting again in 4 s", "запустится снова через 4 с"),
        ("a sentence of somebody else", "a sentence of somebody else"),
        (
            "Kafka is away for 31 s: no answer for 40 s; start its brokers, or see their logs",
            "Kafka недоступна 31 с: нет ответа 40 с; запустите её брокеры или посмотрите их логи",
        ),
        (
            "vision dlq take vision.posts-3-17 --reason TEXT --dry-run; if it stays, restart the worker",
            "vision dlq take vision.posts-3-17 --reason TEXT --dry-run; если не помогает, перезапустите воркер",
        ),
    ],
)
def test_what_another_process_said_in_english_is_said_in_the_language(english: str, russian: str) -> None:
    assert heard(english) == english
    use("ru")
    assert heard(english) == russian


def test_a_value_with_braces_is_only_a_value() -> None:
    for chosen in texts.LANGUAGES:
        use(chosen)
        assert "{0} {x}" in say(
            "there is no letter {letter_id}; `vision dlq ls --all` lists every one", letter_id="{0} {x}"
        )
    assert "{tenant}" in heard("no access token: {tenant}")


@pytest.mark.parametrize("part", [" at ", "; ", ": ", ", ", "(", "waiting for ", "Kafka is away for 3 s: "])
def test_a_sentence_of_others_costs_little_time_whatever_it_says(part: str) -> None:
    use("ru")
    started = time.perf_counter()
    heard(part * (100_000 // len(part)))
    assert time.perf_counter() - started < 5.0
