"""What people do on pages, with their own hands: log in, create, close, shut out, look after their machine."""

import re

from tests.browser.conftest import JOB, PATIENT, WIDTHS, Guest, Site

pytestmark = PATIENT


@WIDTHS
def test_a_session_begins_with_a_key_and_ends_with_a_click(guest: Guest, site: Site) -> None:
    guest.open("/")
    assert guest.page.get_by_role("link", name="New job").count() == 0
    guest.page.get_by_role("link", name="Log in").click()
    guest.page.get_by_label("Key").fill(site.operator_key)
    guest.page.get_by_role("main").get_by_role("button", name="Log in").click()
    guest.expect(guest.page.get_by_role("link", name="New job")).to_be_visible()
    guest.page.get_by_role("button", name="Log out").click()
    guest.expect(guest.page.get_by_role("link", name="Log in")).to_be_visible()
    assert guest.page.get_by_role("link", name="New job").count() == 0


def test_a_wrong_key_is_told_and_opens_nothing(guest: Guest) -> None:
    guest.open("/ui/login")
    guest.page.get_by_label("Key").fill("sk_nobody")
    guest.page.get_by_role("main").get_by_role("button", name="Log in").click()
    guest.see("opens nothing here")
    guest.forgive("401")  # a browser tells of such an answer in its console
    assert guest.page.get_by_role("button", name="Log out").count() == 0


@WIDTHS
def test_a_job_is_created_by_the_form(operator: Guest, site: Site, viewport: dict[str, int]) -> None:
    name = f"by-hand-{viewport['width']}"
    operator.open("/")
    operator.page.get_by_role("link", name="New job").click()
    text = operator.page.get_by_label("Job file")
    text.fill(JOB.format(name=name, min_updates=0))
    operator.expect(operator.page.get_by_role("status").filter(has_text="min_updates")).to_be_visible()
    text.fill(JOB.format(name=name, min_updates=1))
    operator.see(f"{name} can be created")
    operator.page.get_by_role("button", name="Create").click()
    operator.expect(operator.page.get_by_role("heading", level=1)).to_have_text(name)
    operator.see("The job is created")
    assert site.live_round(name) > 0


@WIDTHS
def test_a_round_is_closed_early_by_hand(operator: Guest, site: Site, viewport: dict[str, int]) -> None:
    name = f"closed-{viewport['width']}"
    site.create_job(JOB.format(name=name, min_updates=1))
    site.join(f"slow-{viewport['width']}").get_task(job=name)  # and the round waits for it
    round_id = site.send_update(f"early-{viewport['width']}", job=name)
    operator.open(f"/ui/rounds/{round_id}")
    operator.page.get_by_text("Close this round early…").click()
    operator.page.get_by_role("button", name="Close now").click()
    operator.see("The round closes.")
    operator.expect(operator.page.locator("ol.strip [aria-current=step]")).to_have_text("closed")
    assert site.live_round(name) > round_id


@WIDTHS
def test_a_client_is_shut_out_and_let_in_again(operator: Guest, site: Site, viewport: dict[str, int]) -> None:
    member = site.join(f"noisy-{viewport['width']}")
    operator.open("/ui/clients")
    operator.page.get_by_role("link", name=member.client_id).click()
    operator.page.get_by_text("Shut out…").click()
    operator.page.get_by_role("textbox", name="Reason").fill("sends noise")
    operator.page.get_by_role("button", name="Shut out now").click()
    operator.see("The client is shut out")
    operator.see("sends noise")
    assert member.get_task().status_code == 403
    operator.page.get_by_role("button", name="Let in again").click()
    operator.see("may take part again")
    assert member.get_task().status_code in (200, 204)


@WIDTHS
def test_a_volunteer_reads_what_its_machine_did(guest: Guest, site: Site, viewport: dict[str, int]) -> None:
    name = f"home-{viewport['width']}"
    site.create_job(JOB.format(name=name, min_updates=1))
    round_id = site.send_update(name, job=name)
    guest.log_in(site.members[name].key)
    guest.page.get_by_role("link", name="My page").click()
    guest.see(name)
    event = guest.page.get_by_role("row", name=re.compile(rf"update_accepted.*\b{round_id}\b"))
    guest.expect(event.first).to_be_visible()
    guest.see("tokens earned")
    guest.open("/ui/new-job")
    guest.forgive("403")
    assert guest.page.get_by_role("button", name="Create").count() == 0
