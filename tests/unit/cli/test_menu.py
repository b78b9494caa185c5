"""The whole command line as it is offered: headings, examples, JSON for programs."""

import re
import shlex
from typing import Any

import pytest
import typer

from fed_compute.cli.exit_codes import EXIT_CODES
from fed_compute.cli.main import app, main
from fed_compute.cli.menu import EXAMPLES, HEADINGS, walk
from tests.architecture.source import REPOSITORY

COMMANDS = dict(walk(app))
PROGRAM = typer.main.get_command(app)

# These do something and say in a line what they did; all others show something, and programs must be able to read it.
ACTS = {
    "serve": "runs until it is stopped",
    "join": "runs until it is stopped; --logs json",
    "pause": "asks running clients",
    "resume": "asks running clients",
    "finish": "asks running clients",
    "client approve": "changes clients",
    "client unban": "changes a client",
    "model export": "writes a file",
    "model get": "writes a file",
    "job export": "writes a file",
}


def found(name: str) -> Any:
    """Return a command of the program by its whole name."""
    command: Any = PROGRAM
    for part in name.split():
        command = command.commands[part]
    return command


def test_there_are_commands() -> None:
    assert {"serve", "join", "doctor", "events", "leaderboard", "client list", "client rotate"} <= COMMANDS.keys()


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - ACTS.keys()))
def test_whatever_shows_something_shows_it_to_programs_too(name: str) -> None:
    options = {option for parameter in found(name).params for option in parameter.opts}
    assert "--json" in options, f"give `{name}` the option --json, or list it as an act"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_stands_under_a_heading_and_shows_how_it_is_used(name: str) -> None:
    assert HEADINGS.get(name.split()[0]), f"give `{name.split()[0]}` a heading in cli/menu.py"
    assert EXAMPLES.get(name), f"give `{name}` an example in cli/menu.py"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_example_is_one_that_the_program_understands(name: str) -> None:
    for example in EXAMPLES[name]:
        words = shlex.split(example)
        assert " ".join(words[: len(name.split())]) == name
        rest = words[len(name.split()) :]
        with found(name).make_context(name, rest, resilient_parsing=False) as context:
            assert context.params


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_help_of_every_command_shows_its_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(), "--help"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert all(" ".join(f"$ fed-compute {example}".split()) in printed for example in EXAMPLES[name])


def test_the_front_page_has_the_four_headings_and_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert all(f"─ {heading} ─" in printed for heading in set(HEADINGS.values()))
    assert all(f"{code} {meaning}" in printed for code, meaning in EXIT_CODES.items())


def test_the_page_about_exit_codes_says_what_the_program_says() -> None:
    page = (REPOSITORY / "docs" / "reference" / "exit-codes.md").read_text(encoding="utf-8")
    told = {int(code): meaning for code, meaning in re.findall(r"^\| ([0-9]+) \| ([^|]+) \|", page, re.MULTILINE)}
    assert told.keys() == EXIT_CODES.keys()
    assert all(EXIT_CODES[code].startswith(meaning.strip()) for code, meaning in told.items())
