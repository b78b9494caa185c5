"""Links lead where they say."""

import re
from pathlib import Path

import pytest

from tests.architecture.source import REPOSITORY
from tests.docs.pages import documents, prose, text_of
from tools.site.hooks import COMPLETED, source_page
from tools.site.links import DOCS, page_of, rewritten

LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
IDS = {path: path.relative_to(REPOSITORY).as_posix() for path in documents()}


def links(path: Path) -> list[str]:
    """Return the local targets of a document's links."""
    return [target for target in LINK.findall(prose(text_of(path))) if not re.match(r"[a-z]+:", target)]


def anchors(text: str) -> set[str]:
    """Return the anchors of a Markdown document, as GitHub and mkdocs make them of headings."""
    found = {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
             for title in re.findall(r"^#+ +(.+?) *#*$", prose(text), re.MULTILINE)}  # fmt: skip
    return found | set(re.findall(r'id="([^"]+)"', text))


def broken(path: Path) -> list[str]:
    """Return the local links of a document that lead nowhere: no such file, heading, or test."""
    return [target for target in links(path) if not leads_somewhere(path, target)]


def leads_somewhere(path: Path, target: str) -> bool:
    """Say whether a link of a document leads to something that is there."""
    name, _, anchor = target.partition("#")
    file = (path.parent / name).resolve() if name else path
    if not file.exists() or not anchor:
        return file.exists()
    if file.suffix == ".py":
        return bool(re.search(rf"^(async )?(def|class) {re.escape(anchor)}\b", text_of(file), re.MULTILINE))
    return anchor in anchors(text_of(file))


@pytest.mark.parametrize("path", documents(), ids=IDS.get)
def test_every_link_leads_to_a_file_a_heading_or_a_test_that_is_there(path: Path) -> None:
    assert broken(path) == []


def test_each_tick_of_the_comparison_leads_to_a_test_that_is_collected() -> None:
    """A named function is a test; a whole file holds tests. No test of ours is skipped for good."""
    page = DOCS / "explanation" / "comparison.md"
    rows = [line for line in text_of(page).splitlines() if re.match(r"\| (?!\|)(?!---)", line)]
    own = [row.split(" | ")[1] for row in rows]
    ticks = [cell for cell in own if "](" in cell]
    assert len(ticks) >= 25
    assert [cell for cell in own if cell.startswith("yes")] == [], "a yes without a test"
    for cell in ticks:
        (target,) = LINK.findall(cell)
        name, _, test = target.partition("#")
        file = (page.parent / name).resolve()
        assert file.is_relative_to(REPOSITORY / "tests"), target
        assert re.match("test_", test or file.name), target
        assert re.search(r"^def test_", text_of(file), re.MULTILINE), target


def test_every_page_is_in_the_navigation() -> None:
    menu = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    pages = [page_of(path) or "" for path in documents()]
    by_folder = tuple(f"{folder}/" for folder in COMPLETED.values())
    assert [page for page in pages if page not in menu and not page.startswith(by_folder)] == []
    assert all(f"  - {section}:" in menu for section in COMPLETED)
    named = re.findall(r"[\w/-]+\.md$", menu, re.MULTILINE)
    assert sorted(named) == sorted(set(named)), "a page stands twice in the menu"


@pytest.mark.parametrize("folder", ["tutorials", "how-to", "reference", "explanation", "decisions"])
def test_the_first_page_of_a_folder_leads_to_all_others(folder: str) -> None:
    first = DOCS / folder / ("README.md" if folder == "decisions" else "index.md")
    named = {(first.parent / target.partition("#")[0]).resolve() for target in links(first)}
    assert sorted(path.name for path in first.parent.glob("*.md") if path not in named and path != first) == []


def test_a_link_that_leads_nowhere_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("# One thing\n")
    (tmp_path / "t.py").write_text("def test_a() -> None: ...\n")
    page = tmp_path / "a.md"
    page.write_text(
        "[1](b.md) [2](b.md#one-thing) [3](b.md#two) [4](c.md) [5](t.py#test_a) [6](t.py#test_b) [7](https://x.y/z)\n"
        "```text\n[8](gone.md)\n```\n"
    )
    assert broken(page) == ["b.md#two", "c.md", "t.py#test_b"]


def test_links_between_files_become_links_between_pages() -> None:
    text = (
        "[a](../../SECURITY.md#how-to-report) [b](../../src/fed_compute/ids.py) [c](../reliability.md) [d](../../src)"
    )
    assert rewritten(text, "explanation/x.md") == (
        "[a](../security.md#how-to-report) [b](../source/src/fed_compute/ids.py.md) [c](../reliability.md) d"
    )
    assert rewritten("![p](docs/pictures/demo.png)", "readme.md") == "![p](pictures/demo.png)"
    assert rewritten("```\n[a](../../SECURITY.md)\n```", "explanation/x.md") == "```\n[a](../../SECURITY.md)\n```"


def test_a_link_to_a_test_shows_that_test() -> None:
    assert rewritten("[t](../../tests/docs/test_links.py#broken)", "explanation/x.md") == (
        "[t](../source/tests/docs/test_links.py.md#broken)"
    )
    page = source_page(Path(__file__), {"broken"})
    assert "## broken { #broken }\n\n```python\ndef broken(path: Path)" in page
    assert "def anchors(" not in page
    assert "def anchors(" in source_page(Path(__file__), {""})
