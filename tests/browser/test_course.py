"""A run is watched live: what clients do appears on open pages by itself."""

import re

from tests.browser.conftest import JOB, PATIENT, WIDTHS, Guest, Site

pytestmark = PATIENT


@WIDTHS
def test_a_round_is_watched_from_open_to_closed_without_reloading(
    guest: Guest, site: Site, viewport: dict[str, int]
) -> None:
    job = f"course-{viewport['width']}"
    site.create_job(JOB.format(name=job, min_updates=2))
    round_id = site.live_round(job)
    guest.open(f"/ui/rounds/{round_id}")
    guest.page.evaluate("window.isTheSamePage = true")
    now = guest.page.locator("ol.strip [aria-current=step]")
    guest.expect(now).to_have_text("open")
    guest.expect(guest.page.locator("#live")).to_have_text("live")

    site.send_update(f"first-{round_id}", job)
    guest.expect(now).to_have_text("collecting")
    guest.expect(guest.page.get_by_role("listitem").filter(has_text=f"first-{round_id}")).to_contain_text("reported")

    site.send_update(f"second-{round_id}", job)
    guest.expect(now).to_have_text("closed")
    guest.expect(guest.page.locator("ol.strip li.past")).to_have_text(["open", "collecting", "aggregating"])
    guest.expect(guest.page.get_by_role("listitem").filter(has_text=f"second-{round_id}")).to_contain_text("reported")
    assert guest.page.evaluate("window.isTheSamePage")


@WIDTHS
def test_the_jobs_page_gains_rounds_and_points_of_its_curves(
    guest: Guest, site: Site, viewport: dict[str, int]
) -> None:
    job = f"curves-{viewport['width']}"
    site.create_job(JOB.format(name=job, min_updates=2))
    guest.open(f"/ui/jobs/{job}")
    guest.page.evaluate("window.isTheSamePage = true")
    curve = guest.page.locator("figure.chart", has_text="Updates in each round")
    guest.expect(curve).to_contain_text("Nothing is measured yet.")
    for round_id in range(2):
        for name in ("third", "fourth"):
            site.send_update(f"{name}-{job}", job)
        said = re.compile(rf"^Updates in each round. {round_id + 1} rounds?. Newest updates: 2.$")
        guest.expect(curve).to_have_attribute("aria-label", said)
    guest.expect(curve.locator("canvas")).to_be_visible()
    guest.expect(guest.page.locator("#rounds tbody tr", has_text="closed")).to_have_count(2)
    assert guest.page.evaluate("window.isTheSamePage")


def test_the_overview_counts_what_happens_and_says_that_it_is_live(guest: Guest, site: Site) -> None:
    guest.open("/")
    guest.expect(guest.page.locator("#live")).to_have_text("live")
    accepted = guest.page.locator(".figure", has_text="updates accepted").locator("dd").first
    before = int(accepted.inner_text())
    site.send_update("counted")
    guest.expect(accepted).to_have_text(f"{before + 1}")


def test_an_open_menu_stays_open_while_the_page_goes_on(operator: Guest, site: Site) -> None:
    site.create_job(JOB.format(name="menu", min_updates=2))
    round_id = site.send_update("waits", job="menu")
    operator.open(f"/ui/rounds/{round_id}")
    operator.expect(operator.page.locator("#live")).to_have_text("live")
    operator.page.get_by_text("Close this round early…").click()
    site.join("newcomer")
    operator.page.wait_for_timeout(1_500)  # longer than a page waits before it looks again
    operator.expect(operator.page.get_by_role("button", name="Close now")).to_be_visible()


def test_who_goes_by_keyboard_stays_there_while_the_page_goes_on(guest: Guest, site: Site) -> None:
    site.create_job(JOB.format(name="walked", min_updates=2))
    guest.open("/ui/jobs")
    guest.expect(guest.page.locator("#live")).to_have_text("live")
    card = guest.page.locator(".card", has_text="walked")
    guest.tab_to("walked")
    site.send_update("walker", job="walked")
    guest.expect(card).to_contain_text("1 of 2 updates")
    guest.expect(card.get_by_role("link", name="walked")).to_be_focused()
