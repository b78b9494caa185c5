"""The API's own pages work with nothing but this coordinator, under a policy without exceptions for scripts."""

import pytest

from tests.browser.conftest import PATIENT, WIDTHS, Guest, Site
from tests.browser.test_access import barriers

pytestmark = PATIENT

FEW = ("/readyz", "/client/register", "/admin/keys", "/tasks/{task_id}/heartbeat")
WEAK = ("unsafe-inline", "unsafe-eval", "*", "http:", "https:")


@pytest.fixture
def brief(guest: Guest) -> Guest:
    """A guest to whom the coordinator tells of few calls only: the pages draw each alike, and take seconds for all."""
    document = guest.page.request.get(guest.site.url + "/openapi.json").json()
    document["paths"] = {path: calls for path, calls in document["paths"].items() if path in FEW}
    guest.page.route("**/openapi.json", lambda route: route.fulfill(json=document))
    return guest


@WIDTHS
def test_a_call_is_tried_on_the_page_that_lists_them(brief: Guest) -> None:
    brief.open("/docs")
    brief.page.get_by_role("button", name="Should requests be sent here").first.click()
    brief.page.get_by_role("button", name="Try it out").click()
    brief.page.get_by_role("button", name="Execute").click()
    brief.expect(brief.page.locator(".live-responses-table .response-col_status").last).to_contain_text("200")
    brief.expect(brief.page.locator(".live-responses-table")).to_contain_text('"ready"')


def test_a_key_is_given_once_and_sent_with_each_call(brief: Guest, site: Site) -> None:
    brief.open("/docs")
    brief.page.get_by_role("button", name="Authorize").click()
    brief.page.locator(".auth-container input").fill(site.operator_key)
    brief.page.locator(".auth-container").get_by_role("button", name="Apply credentials").click()
    brief.page.locator(".auth-container").get_by_role("button", name="Close").click()
    brief.page.get_by_role("button", name="List keys, newest first").first.click()
    brief.page.get_by_role("button", name="Try it out").click()
    brief.page.get_by_role("button", name="Execute").click()
    brief.expect(brief.page.locator(".live-responses-table")).to_contain_text("operator")


@pytest.mark.parametrize(("path", "summaries"), [("/docs", ".opblock-summary-description"), ("/redoc", "#api h2")])
def test_a_page_of_the_api_shows_every_call(guest: Guest, path: str, summaries: str) -> None:
    document = guest.page.request.get(guest.site.url + "/openapi.json").json()
    wanted = {call["summary"] for calls in document["paths"].values() for call in calls.values()}
    guest.open(path)
    guest.page.locator(summaries, has_text="Make a new key for a client").wait_for(state="attached")
    assert wanted - {text.strip() for text in guest.page.locator(summaries).all_text_contents()} == set()


@WIDTHS
@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_a_page_of_the_api_is_no_wider_than_the_window(brief: Guest, path: str, viewport: dict[str, int]) -> None:
    brief.open(path)
    brief.expect(brief.page.get_by_text("Should requests be sent here").last).to_be_attached()
    assert brief.page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


def test_the_page_to_read_has_a_search(brief: Guest) -> None:
    brief.open("/redoc")
    brief.page.get_by_role("textbox", name="Search").fill("heartbeat")
    brief.expect(brief.page.locator("[role=menuitem], [data-role='search:results'] li").first).to_contain_text("lease")


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/", "/ui/login", "/ui/nothing"])
def test_no_policy_has_an_exception_for_scripts(guest: Guest, path: str) -> None:
    answer = guest.page.request.get(guest.site.url + path, headers={"Accept": "text/html"})
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert [word for sources in policy.values() for word in sources.split() if word.strip("'") in WEAK] == []


def test_a_script_that_is_slipped_in_does_not_run(brief: Guest) -> None:
    for path in ("/", "/docs", "/redoc"):
        brief.open(path)
        brief.page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.owned = 1\">')")
        brief.page.evaluate("""() => {
            const script = document.createElement("script");
            script.textContent = "window.owned = 1";
            document.body.append(script);
        }""")
        brief.page.wait_for_timeout(200)
        assert brief.page.evaluate("window.owned") is None
    brief.forgive("script-src")
    brief.wrong[:] = [line for line in brief.wrong if "404" not in line]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_a_page_of_the_api_has_no_barrier_that_axe_knows(brief: Guest, path: str, scheme: str) -> None:
    brief.page.emulate_media(color_scheme=scheme)
    brief.open(path)
    brief.expect(brief.page.get_by_text("Should requests be sent here").last).to_be_visible()
    assert barriers(brief) == []
