"""Everybody can use the pages: by keyboard alone, with a screen reader, in the dark, on a phone."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import DESKTOP, JOB, PATIENT, PHONE, WIDTHS, Guest, Site, guest_of

pytestmark = PATIENT

AXE = (Path(__file__).parent / "vendor" / "axe-4.14.1.min.js").read_text(encoding="utf-8")
PAGES = (
    "/",
    "/ui/jobs",
    "/ui/compare?job=default&job=other",
    "/ui/jobs/default",
    "/ui/rounds/1",
    "/ui/rounds/2",
    "/ui/clients",
    "/ui/clients/lab-1",
    "/ui/leaderboard",
    "/ui/teams/labs",
    "/ui/events",
    "/ui/health",
    "/ui/join",
    "/ui/me",
    "/ui/new-job",
    "/ui/login",
)
FOCUSABLE = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']"
FOCUSED = """() => {
    const here = document.activeElement, style = getComputedStyle(here);
    if (!here || here === document.body) return null;
    const box = here.getBoundingClientRect();
    const number = [...document.querySelectorAll(FOCUSABLE)].indexOf(here);
    const inside = box.width > 0 && box.right > 0 && box.bottom > 0 && box.left < innerWidth && box.top < innerHeight;
    const ringed = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
    return { number, name: here.outerHTML.slice(0, 90), seen: inside && ringed };
}""".replace("FOCUSABLE", repr(FOCUSABLE))  # fmt: skip


@pytest.fixture(scope="module")
def used(site: Site) -> Site:
    """The site after a closed round and within another, so that every page has something to show."""
    for name in ("lab-1", "lab-2"):
        site.send_update(name)
    site.refuse_update("lab-1")
    site.create_job(JOB.format(name="other", min_updates=1))
    site.members["lab-1"].http.post("/teams", json={"name": "labs"}).raise_for_status()
    return site


@pytest.fixture(scope="module")
def reader(chromium: Any, used: Site) -> Iterator[Guest]:
    """An operator who stays logged in over the module's tests."""
    with guest_of(chromium, used, viewport=DESKTOP) as guest:
        guest.log_in(used.operator_key)
        yield guest


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_no_barrier_that_axe_knows_light_or_dark_wide_or_narrow(reader: Guest, path: str) -> None:
    reader.open(path)
    reader.settle()
    for scheme, viewport in product(("light", "dark"), (DESKTOP, PHONE)):
        reader.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        reader.page.set_viewport_size(viewport)
        assert barriers(reader) == [], (scheme, viewport)


@pytest.mark.parametrize("path", PAGES)
def test_no_page_is_wider_than_a_phone(reader: Guest, path: str) -> None:
    reader.page.set_viewport_size(PHONE)
    reader.open(path)
    assert reader.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@WIDTHS
@pytest.mark.parametrize("path", ["/", "/ui/jobs/default", "/ui/rounds/2", "/ui/clients/lab-1", "/ui/new-job"])
def test_the_keyboard_alone_reaches_everything_and_shows_where_it_is(
    reader: Guest, viewport: dict[str, int], path: str
) -> None:
    reader.page.set_viewport_size(viewport)
    reader.open(path)
    reader.settle()
    reader.freeze()
    wanted = reader.page.locator(f":is({FOCUSABLE}):visible").count()
    visited: dict[int, str] = {}
    for _ in range(wanted + 5):
        reader.page.keyboard.press("Tab")
        here = reader.page.evaluate(FOCUSED)
        if here is None or here["number"] in visited:
            break
        assert here["seen"], here["name"]
        visited[here["number"]] = here["name"]
    assert len(visited) == wanted
    assert "Skip to content" in visited[0]


def test_the_skip_link_leads_past_the_bar(reader: Guest) -> None:
    reader.page.set_viewport_size(DESKTOP)
    reader.open("/")
    reader.page.keyboard.press("Tab")
    reader.page.keyboard.press("Enter")
    assert reader.page.evaluate("document.activeElement.id") == "content"


def test_a_session_and_a_job_are_made_without_a_mouse(chromium: Any, used: Site) -> None:
    with guest_of(chromium, used, viewport=DESKTOP) as guest:
        guest.open("/ui/login")
        guest.tab_to("Key")
        guest.page.keyboard.type(used.operator_key)
        guest.page.keyboard.press("Enter")
        guest.expect(guest.page.get_by_role("button", name="Log out")).to_be_visible()
        guest.tab_to("New job")
        guest.page.keyboard.press("Enter")
        guest.expect(guest.page.get_by_role("heading", level=1)).to_have_text("New job")
        guest.tab_to("Create")
        guest.page.keyboard.press("Enter")
        guest.expect(guest.page.get_by_role("heading", level=1)).to_have_text("my-job")


def test_the_look_for_barriers_finds_one(reader: Guest) -> None:
    reader.open("/ui/join")
    reader.page.evaluate("document.querySelector('main').append(document.createElement('button'))")
    assert [found.split(":")[0] for found in barriers(reader)] == ["button-name"]


def barriers(guest: Guest) -> list[str]:
    """Return what axe finds on the page, of whatever impact."""
    guest.page.evaluate(AXE)
    found = guest.page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{one['id']}: {node['html'][:150]} {node['failureSummary']}"
        for one in found["violations"]
        for node in one["nodes"]
    ]
