"""A real browser before a real coordinator: Chromium, driven by Playwright, and `fed-compute serve` in a process."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.acceptance.conftest import TLS, Member, update_body
from tests.fault.server import Server

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not there; run `make setup`")

CHROMIUM = shutil.which(os.environ.get("CHROMIUM", "chromium"))
ARGUMENTS = ["--no-sandbox", "--disable-background-networking"]
PATIENCE_MS = 45_000
"""How long a page has for what it should show. Slowness never fails a test: the machine may be shared."""

PATIENT = pytest.mark.timeout(200)

DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
WIDTHS = pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])

JOB = """name = "{name}"
[model]
name = "simple_mlp"
args = {{ input_dim = 3, hidden_dim = 2, output_dim = 2 }}
[rounds]
total = 50
target_updates = 2
min_updates = {min_updates}
over_selection = 2
deadline_seconds = 600
"""
"""A small model; two updates close a round."""

_NOTE_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
    console.error(`policy: ${event.effectiveDirective} forbids ${event.blockedURI} ${event.sample}`));
"""
_NAME_OF_FOCUSED = """() => {
    const here = document.activeElement, label = here.labels?.[0];
    return (label || here).textContent.trim();
}"""


@dataclass
class Site:
    """A running coordinator with one small job, and clients of it."""

    url: str
    operator_key: str = field(repr=False)
    members: dict[str, Member] = field(default_factory=dict, repr=False)

    def join(self, name: str) -> Member:
        """Register a client."""
        with httpx2.Client(base_url=self.url, timeout=40.0, verify=TLS) as http:
            answer = http.post("/client/register", json={"client_name": name})
        assert answer.status_code == 200, answer.text
        key = answer.json()["api_key"]
        headers = {"Authorization": f"Bearer {key}", "Fed-Compute-Protocol": "1"}
        http = httpx2.Client(base_url=self.url, headers=headers, timeout=40.0, verify=TLS)
        self.members[name] = Member(http, name, key)
        return self.members[name]

    def view(self, job: str = "default") -> dict[str, Any]:
        """Return what the API tells of a job."""
        with httpx2.Client(base_url=self.url, timeout=40.0, verify=TLS) as http:
            return dict(http.get(f"/jobs/{job}").raise_for_status().json())

    def live_round(self, job: str = "default") -> int:
        """Return the number of the round in which a job is."""
        return int(self.view(job)["current_round_id"])

    def create_job(self, text: str) -> None:
        """Create a job as an operator does by the API."""
        headers = {"Authorization": f"Bearer {self.operator_key}", "Content-Type": "application/toml"}
        with httpx2.Client(base_url=self.url, timeout=40.0, verify=TLS) as http:
            http.post("/jobs", content=text, headers=headers).raise_for_status()

    def send_update(self, name: str, job: str = "default") -> int:
        """Let a client take a task of a job and answer it; return the round's number."""
        task = self._training(name, job)
        assert self.members[name].put(task, update_body(task)).status_code == 201
        return int(task["round_id"])

    def refuse_update(self, name: str, job: str = "default") -> None:
        """Let a client send what is no update."""
        task = self._training(name, job)
        assert self.members[name].put(task, b"no update").status_code == 422

    def _training(self, name: str, job: str) -> dict[str, Any]:
        """Return a client's task of training. What it is asked to measure first, it measures."""
        member = self.members.get(name) or self.join(name)
        while True:
            answer = member.get_task(job=job, wait=20)  # a round that closes is followed by another
            assert answer.status_code == 200, answer.text
            task = dict(answer.json())
            if task["task"] == "train":
                return task
            report = {"num_samples": 10, "loss": 1 / (1 + task["round_id"]), "accuracy": 0.5}
            member.http.post(f"/tasks/{task['task_id']}/evaluation", json=report).raise_for_status()


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The coordinator of all tests of this folder that run in one process."""
    with running_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@contextmanager
def running_site(folder: Path) -> Iterator[Site]:
    """Run a coordinator while the block runs."""
    server = Server(
        folder, job=JOB.format(name="default", min_updates=2), environment={"FED_COMPUTE_SHUTDOWN_SECONDS": "0.2"}
    )
    with ExitStack() as undo:
        undo.callback(server.close)
        server.start()
        site = Site(server.url, (server.data_dir / "operator.key").read_text().strip())
        undo.callback(lambda: [member.http.close() for member in site.members.values()])
        yield site


@pytest.fixture(scope="package")
def chromium() -> Iterator["playwright.Browser"]:
    """A browser without a window, the same for all tests that run in one process."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine; on Debian: apt install chromium")
    playwright.expect.set_options(timeout=PATIENCE_MS)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Guest:
    """One browser profile: its cookies, its page, and all that went wrong in it."""

    page: "playwright.Page"
    site: Site
    wrong: list[str]

    def open(self, path: str) -> None:
        """Go to a page of the site."""
        self.page.goto(self.site.url + path)

    def settle(self) -> None:
        """Wait until the page has its feed and its curves."""
        self.expect(self.page.locator("#live")).to_have_text("live")
        self.expect(self.page.locator("figure.chart:not([aria-label])")).to_have_count(0)

    def freeze(self) -> None:
        """Let no part of the page be replaced any more."""
        self.page.evaluate("document.body.addEventListener('htmx:beforeRequest', (event) => event.preventDefault())")
        self.expect(self.page.locator(".htmx-request")).to_have_count(0)

    def expect(self, what: "playwright.Locator") -> "playwright.LocatorAssertions":
        """Return assertions that wait until they hold."""
        return playwright.expect(what)

    def tab_to(self, name: str) -> None:
        """Press Tab until the thing of this name or label has the focus."""
        for _ in range(60):
            self.page.keyboard.press("Tab")
            if self.page.evaluate(_NAME_OF_FOCUSED).startswith(name):
                return
        raise AssertionError(f"the keyboard does not reach {name!r}")

    def forgive(self, words: str) -> None:
        """Take back what went wrong with these words in it; something has to have."""
        kept = [line for line in self.wrong if words not in line]
        assert kept != self.wrong, f"nothing was wrong with {words}"
        self.wrong[:] = kept

    def log_in(self, key: str) -> None:
        """Log in by the form."""
        self.open("/ui/login")
        self.page.get_by_label("Key").fill(key)
        self.page.get_by_role("main").get_by_role("button", name="Log in").click()
        self.page.get_by_role("button", name="Log out").wait_for()

    def see(self, text: str) -> None:
        """Wait until the page's main part shows a text."""
        self.page.get_by_role("main").get_by_text(text).first.wait_for()


@contextmanager
def guest_of(browser: "playwright.Browser", site: Site, **profile: object) -> Iterator[Guest]:
    """Give a fresh profile. Afterwards nothing may have gone wrong: in the console, by the policy, to elsewhere."""
    context = browser.new_context(**profile)
    context.set_default_timeout(PATIENCE_MS)
    context.add_init_script(_NOTE_VIOLATIONS)
    page, wrong = context.new_page(), []
    page.on(
        "console", lambda said: wrong.append(f"console: {said.text}") if said.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on(
        "request", lambda request: wrong.append(f"request: {request.url}") if _is_foreign(request.url, site) else None
    )
    yield Guest(page, site, wrong)
    context.close()
    assert wrong == []


@pytest.fixture
def viewport() -> dict[str, int]:
    """The size of the browser's window, for tests that do not choose."""
    return DESKTOP


@pytest.fixture
def guest(chromium: "playwright.Browser", site: Site, viewport: dict[str, int]) -> Iterator[Guest]:
    """A stranger in a window of `viewport`."""
    with guest_of(chromium, site, viewport=viewport) as guest:
        yield guest


@pytest.fixture
def operator(guest: Guest, site: Site) -> Guest:
    """The same, logged in as an operator."""
    guest.log_in(site.operator_key)
    return guest


def _is_foreign(url: str, site: Site) -> bool:
    parts = urlsplit(url)
    return parts.scheme not in ("data", "blob") and parts.netloc != urlsplit(site.url).netloc
