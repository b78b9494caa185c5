"""The repository as a stranger finds it: examples work, links lead somewhere, no machine is named."""

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from fed_compute.protocol.job import load_job
from tests.architecture.source import REPOSITORY
from tools.write_constraints import pins

EXAMPLES = sorted((REPOSITORY / "examples").rglob("*.toml"))
# Written so that this file does not match itself.
MACHINE = re.compile(
    r"(?<![\w./-])/(work/(main|shared)|opt/(wheels|pypi)|tmp/(bash|brief)|home/\w+/|Users/\w+/)"
    r"|\b(pypi\.org|pythonhosted\.org|download\.pytorch\.org|registry\.npmjs\.org|deb\.debian\.org|archive\.ubuntu\.com)"
)
LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)


@cache
def tracked_files() -> tuple[Path, ...]:
    """Return every file of the repository that git knows or would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    return tuple(path for name in listing.split("\0") if name and (path := REPOSITORY / name).is_file())


def names_of_machines(text: str) -> list[str]:
    """Return the paths of one machine and the hosts of package registries that a text names."""
    return [match.group() for match in MACHINE.finditer(text)]


def dead_links(text: str, folder: Path) -> list[str]:
    """Return the local files that a Markdown text links to and that do not exist."""
    targets = [target.split("#")[0] for target in LINK.findall(FENCE.sub("", text))]
    local = [target for target in targets if target and not re.match(r"[a-z]+:", target)]
    return [target for target in local if not (folder / target).exists()]


def folders_without_init(files: list[Path]) -> list[str]:
    """Return the test folders that are no packages; two test files of one name would then collide."""
    folders = {path.parent for path in files if path.name.startswith("test_") and path.suffix == ".py"}
    return sorted(str(folder) for folder in folders if not (folder / "__init__.py").is_file())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_a_job(path: Path) -> None:
    assert load_job(path).name == path.stem


def test_there_are_examples() -> None:
    assert {"digits", "regression", "fashion-mnist"} <= {path.stem for path in EXAMPLES}


def test_no_file_names_a_machine_or_a_registry() -> None:
    found = {}
    for path in tracked_files():
        body = path.read_bytes()
        if b"\0" not in body and (names := names_of_machines(body.decode("utf-8"))):
            found[str(path.relative_to(REPOSITORY))] = names
    assert found == {}


def test_every_local_link_of_a_document_leads_somewhere() -> None:
    documents = [path for path in tracked_files() if path.suffix == ".md"]
    dead = {path.name: dead_links(path.read_text(encoding="utf-8"), path.parent) for path in documents}
    assert {name: links for name, links in dead.items() if links} == {}


def test_every_test_folder_is_a_package() -> None:
    assert folders_without_init(list((REPOSITORY / "tests").rglob("*.py"))) == []


def test_everything_that_is_installed_for_the_tests_is_pinned() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0] for line in lines if line and not line.startswith("#")}
    assert sorted(pins().keys() - pinned) == [], "run `make constraints`"
    assert [line for line in lines if not re.fullmatch(r"#.*|[a-z0-9-]+==[0-9][0-9a-z.]*", line)] == []


@pytest.mark.parametrize("path", ["/work" + "/main/x", "see /opt" + "/wheels", "https://pypi" + ".org/simple"])
def test_a_named_machine_is_noticed(path: str) -> None:
    assert names_of_machines(f"look at {path} there")
    assert names_of_machines("src/work/main.py, /opt/venv, https://example.org, tests/tmp/bash.md") == []


def test_a_dead_link_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "here.md").touch()
    text = "[a](here.md) [b](here.md#part) [c](https://x.org/no) [d](#part) ![e](gone.png)\n```\n[f](gone.md)\n```\n"
    assert dead_links(text, tmp_path) == ["gone.png"]


def test_a_test_folder_without_init_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "test_x.py").touch()
    assert folders_without_init([tmp_path / "test_x.py"]) == [str(tmp_path)]
    (tmp_path / "__init__.py").touch()
    assert folders_without_init([tmp_path / "test_x.py"]) == []
