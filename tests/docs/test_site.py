"""The site builds without a warning, and shows itself without the rest of the world."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import REPOSITORY

pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
pytestmark = pytest.mark.timeout(300)

FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed)[^>]*\ssrc=["']?(?:https?:)?//[^"'\s>]+"""
    r"""|<link(?![^>]*rel=["']?(?:canonical|prev|next))[^>]*\shref=["']?(?:https?:)?//[^"'\s>]+"""
    r"""|@import\s+["'(]?(?:url\()?["']?(?:https?:)?//[^"'\s)]+|url\(["']?(?:https?:)?//[^"'\s)]+"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does, where no name can be looked up."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    unreachable = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https", "HTTP", "HTTPS")}
    environment = {**os.environ, **unreachable, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    pages = [*site.rglob("*.html"), *site.rglob("*.css")]
    assert len(pages) > 40
    assert {page.name: found for page in pages if (found := FETCHED.findall(page.read_text(encoding="utf-8")))} == {}


def test_no_mark_is_left_and_every_reference_has_its_tables(site: Path) -> None:
    for page in (site / "reference").glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert "generated:" not in text, page.name
        assert "<table>" in text or page.name in ("python-api.html", "glossary.html"), page.name
    assert "create_job" in (site / "reference" / "python-api.html").read_text(encoding="utf-8")


def test_a_tick_of_the_comparison_leads_to_its_test(site: Path) -> None:
    text = (site / "explanation" / "comparison.html").read_text(encoding="utf-8")
    target, name = re.findall(r'href="(\.\./source/[^"#]+)#(test_\w+)"', text)[0]
    page = (site / "explanation" / target).resolve()
    assert f'id="{name}"' in page.read_text(encoding="utf-8")


def test_what_would_be_fetched_is_noticed() -> None:
    assert FETCHED.search('<script src="https://x.org/a.js">')
    assert FETCHED.search('<link rel="stylesheet" href="//fonts.x.org/css">')
    assert FETCHED.search("a{background:url(https://x.org/a.png)}")
    assert not FETCHED.search('<a href="https://x.org">x</a><script src="../assets/a.js"></script>')
