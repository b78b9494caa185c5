"""What the documents tell people to type works."""

import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from fed_compute.client.models import registry
from fed_compute.protocol.job import parse_job_text
from fed_compute.simulator.population.description import parse_fleet_text
from tests.docs.pages import RUNS, Block, blocks, documents, prose, text_of
from tools.site.commands import PROGRAM, commands, program
from tools.site.links import REPOSITORY

JOBS = [block for block in blocks("toml") if "title=" not in block.info]
FLEETS = [block for block in blocks("toml") if 'title="fleet.toml"' in block.info]
PYTHON = blocks("python", "py")
SHELL = blocks("bash", "sh", "console", "shell", "")
WHERE = re.compile(r"(?:^|[\s(&|;])(?:\.venv/bin/)?fed-compute(?= |$)(?P<rest>[^`\n]*)")
PROSE = re.compile(r"`((?:\.venv/bin/)?fed-compute [^`\n]+)`")


def command_lines() -> list[tuple[str, str]]:
    """Return (place, command line) of each call of the program: in shell blocks, and as inline code."""
    found = []
    for block in SHELL:
        joined = re.sub(r"\\\n\s*", " ", block.text)
        for line in joined.splitlines():
            code = re.sub(r"(^|\s)#.*", "", line)
            found += [(block.place, PROGRAM + match["rest"]) for match in WHERE.finditer(code)]
    for path in documents():
        name = path.relative_to(REPOSITORY).as_posix()
        found += [(name, line.removeprefix(".venv/bin/")) for line in PROSE.findall(prose(text_of(path)))]
    return found


def wrong_words(line: str) -> str | None:
    """Say what a command line names that does not exist; None if all does. Values are not looked at."""
    words = shlex.split(line.split(" | ")[0].split(" && ")[0].split(" > ")[0].replace("…", "x"))[1:]
    command, path = program(), PROGRAM
    while words and (inner := getattr(command, "commands", None)) is not None:
        if words[0].startswith("-"):
            break
        name, *words = words
        names = re.sub(r"[,.:;]$", "", name)
        if names not in inner:
            return f"{path} has no command {names!r}"
        command, path = inner[names], f"{path} {names}"
    known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {"--help", "-h"}
    for word in words:
        option = word.partition("=")[0]
        if re.match(r"--?[a-zA-Z]", option) and option not in known:
            return f"{path} has no option {option}"
    return None


@pytest.mark.parametrize("block", FLEETS, ids=lambda block: block.place)
def test_every_block_of_a_fleet_file_is_one(block: Block) -> None:
    assert parse_fleet_text(block.text).device


@pytest.mark.parametrize("block", JOBS, ids=lambda block: block.place)
def test_every_toml_block_is_a_job_file_or_a_fleet_file(block: Block) -> None:
    """One that is neither has a title that says which file it is from."""
    if "[[device]]" in block.text:
        parse_fleet_text(block.text)
    else:
        parse_job_text(block.text)


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: block.place)
def test_every_yaml_block_is_yaml(block: Block) -> None:
    assert isinstance(yaml.safe_load(block.text), dict | list)


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.place)
def test_every_python_block_is_python(block: Block) -> None:
    compile(block.text, block.place, "exec")


@pytest.mark.parametrize("block", [b for b in PYTHON if b.runs], ids=lambda block: block.place)
def test_every_python_block_that_is_marked_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_REGISTERED", {})
    exec(compile(block.text, block.place, "exec"), {"__name__": "__docs__"})  # noqa: S102 - our own documents


def test_there_is_something_to_run_and_to_parse() -> None:
    assert sum(block.runs for block in PYTHON) >= 1
    assert sum(text_of(path).count(f"{RUNS}\n```python") for path in documents()) == sum(b.runs for b in PYTHON)
    assert len(JOBS) >= 5
    assert len(command_lines()) >= 50


def test_every_command_and_option_in_the_documents_exists() -> None:
    wrong = {f"{place}: {line}": found for place, line in command_lines() if (found := wrong_words(line))}
    assert wrong == {}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("fed-compute serve --port 0 --job x.toml", None),
        ("fed-compute key list --limit 3", None),
        ("fed-compute --version", None),
        ("fed-compute srve", "fed-compute has no command 'srve'"),
        ("fed-compute key make", "fed-compute key has no command 'make'"),
        ("fed-compute serve --prt=1", "fed-compute serve has no option --prt"),
        ("fed-compute join http://x --data -", None),
    ],
)
def test_a_word_that_does_not_exist_is_noticed(line: str, found: str | None) -> None:
    assert wrong_words(line) == found


def test_every_make_target_in_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    texts = "\n".join(
        [
            *(block.text for block in SHELL),
            *(f"`{code}`" for p in documents() for code in re.findall(r"`(make [^`]+)`", text_of(p))),
        ]
    )
    named = set(re.findall(r"(?:^|`)make ((?!PYTHON)[a-z-]+)", texts, re.MULTILINE))
    assert len(named) >= 8
    assert sorted(named - targets) == []


def test_the_program_is_named_as_it_is_installed() -> None:
    assert isinstance(program(), typer.core.TyperGroup)
    assert all(words.startswith(f"{PROGRAM} ") for words, _ in commands())
