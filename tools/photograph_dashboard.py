"""Take the pictures of the dashboard that the documentation shows, of a demonstration while it runs.

Needs Chromium (`CHROMIUM` names another program) and what the demonstration needs. Takes about a minute.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from playwright.sync_api import Browser, sync_playwright

from fed_compute.cli.serve import LISTENING

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
LARGEST_BYTES = 200_000
DESKTOP, PHONE = {"width": 1280, "height": 960}, {"width": 390, "height": 844}
CLIENTS, ROUNDS, ROUNDS_BEFORE = 6, 400, 12
START_SECONDS, TRAIN_SECONDS = 120, 300
SHOTS: tuple[tuple[str, str, dict[str, int], str], ...] = (
    ("overview", "/", DESKTOP, "light"),
    ("job", "/ui/jobs/{job}", DESKTOP, "dark"),
    ("round", "/ui/rounds/{round_id}", DESKTOP, "light"),
    ("phone", "/ui/jobs/{job}", PHONE, "dark"),
    ("api", "/docs", DESKTOP, "light"),
)
"""Name of the picture, page, window and colour scheme."""


@contextmanager
def demonstration(folder: Path) -> Iterator[str]:
    """Run `fed-compute demo` while the block runs; the block gets the coordinator's address."""
    words = ["demo", "--clients", str(CLIENTS), "--rounds", str(ROUNDS), "--json"]
    words += ["--data-dir", str(folder / "run"), "--report-dir", str(folder / "report")]
    process = subprocess.Popen([sys.executable, "-m", "fed_compute", *words], stdout=subprocess.DEVNULL)
    try:
        yield _address(folder / "run" / "logs" / "coordinator.log", process)
    finally:
        process.terminate()
        process.wait(60)


def _address(log: Path, process: subprocess.Popen[bytes]) -> str:
    give_up_at = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up_at and process.poll() is None:
        for line in log.read_text().splitlines() if log.exists() else ():
            if line.startswith(LISTENING):
                return line.removeprefix(LISTENING).strip()
        time.sleep(0.1)
    raise SystemExit(f"the demonstration did not start; see {log}")


def wait_for_rounds(http: httpx2.Client) -> dict[str, Any]:
    """Return the job as soon as enough of its rounds are closed.

    Raises:
        SystemExit: if that takes too long.
    """
    give_up_at = time.monotonic() + TRAIN_SECONDS
    while time.monotonic() < give_up_at:
        jobs = http.get("/jobs").raise_for_status().json()["jobs"]
        if jobs and jobs[0]["rounds_closed"] >= ROUNDS_BEFORE:
            return dict(jobs[0])
        time.sleep(0.5)
    raise SystemExit(f"{ROUNDS_BEFORE} rounds were not closed within {TRAIN_SECONDS} s")


def photograph(browser: Browser, url: str, window: dict[str, int], scheme: str) -> bytes:
    """Return a page as PNG, once it is live and its curves are drawn.

    Raises:
        SystemExit: if it is larger than a picture here should be.
    """
    context = browser.new_context(viewport=window, color_scheme=scheme, reduced_motion="reduce")
    page = context.new_page()
    page.goto(url)
    page.wait_for_load_state("load")
    page.wait_for_timeout(2_500)
    picture = page.screenshot()
    context.close()
    if len(picture) > LARGEST_BYTES:
        raise SystemExit(f"the picture of {url} has {len(picture):,} bytes, more than {LARGEST_BYTES:,}")
    return picture


def main() -> None:
    """Take every picture."""
    chromium = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    if chromium is None:
        raise SystemExit("there is no chromium; on Debian: apt install chromium")
    with tempfile.TemporaryDirectory() as folder, demonstration(Path(folder)) as url, sync_playwright() as driver:
        with httpx2.Client(base_url=url, timeout=30.0) as http:
            job = wait_for_rounds(http)
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, path, window, scheme in SHOTS:
            place = path.format(job=job["name"], round_id=job["current_round_id"] - 1)
            target = PICTURES / f"dashboard-{name}.png"
            target.write_bytes(photograph(browser, url + place, window, scheme))
            print(f"{target.name}: {target.stat().st_size:,} bytes")
        browser.close()


if __name__ == "__main__":
    main()
