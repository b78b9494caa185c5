"""Watches a coordinator over HTTP for `run.sh`. Standard library only: the host has nothing else.

watch.py PORT closed              print how many rounds are closed
watch.py PORT wait ROUNDS SECONDS wait until that many are closed
watch.py PORT clients             print how many clients had an update in a round
watch.py PORT answers             check the pages that a newcomer opens
watch.py PORT digests             print version and SHA-256 of every model so far
"""

import argparse
import hashlib
import http.client
import json
import sys
import time
from typing import Any

PAGES = ("/", "/healthz", "/readyz", "/docs", "/metrics", "/reputation", "/incentives", "/model/v1", "/status/1")
SAFETENSORS = "application/vnd.safetensors"


def get(port: int, path: str, accept: str = "*/*") -> tuple[int, bytes]:
    """Return status and body of one GET, past any proxy."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={"Accept": accept})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def rounds(port: int) -> list[dict[str, Any]]:
    """Return the status of every round, oldest first."""
    found: list[dict[str, Any]] = []
    while True:
        status, body = get(port, f"/status/{len(found) + 1}")
        if status != 200:
            return found
        found.append(json.loads(body))


def num_closed(port: int) -> int:
    """Return how many rounds are closed."""
    return sum(answer["state"] == "CLOSED" for answer in rounds(port))


def wait(port: int, wanted: int, seconds: float) -> int:
    """Wait until `wanted` rounds are closed; a coordinator that is away is waited for as well."""
    end, closed = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        try:
            closed = num_closed(port)
        except (OSError, http.client.HTTPException):
            closed = 0
        if closed >= wanted:
            return closed
        time.sleep(1)
    sys.exit(f"{closed} rounds are closed after {seconds:.0f} s, wanted {wanted}")


def clients(port: int) -> int:
    """Return how many different clients had an update in any round."""
    return len({client for answer in rounds(port) for client in answer["updates_received"]})


def answers(port: int) -> str:
    """Open every page of `PAGES`; say which answered otherwise than with 200."""
    wrong = [f"{path}: {status}" for path in PAGES if (status := get(port, path)[0]) != 200]
    if wrong:
        sys.exit(f"unexpected answers: {', '.join(wrong)}")
    return f"{len(PAGES)} pages"


def digests(port: int) -> str:
    """Return one line per model version: its name and the SHA-256 of its file."""
    lines = []
    while True:
        version = f"v{len(lines) + 1}"
        status, body = get(port, f"/model/{version}", SAFETENSORS)
        if status != 200:
            return "\n".join(lines)
        lines.append(f"{version} {hashlib.sha256(body).hexdigest()}")


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("command", choices=("closed", "wait", "clients", "answers", "digests"))
    parser.add_argument("numbers", type=float, nargs="*")
    given = parser.parse_args()
    match given.command:
        case "closed":
            text = str(num_closed(given.port))
        case "wait":
            text = str(wait(given.port, int(given.numbers[0]), given.numbers[1]))
        case "clients":
            text = str(clients(given.port))
        case "answers":
            text = answers(given.port)
        case _:
            text = digests(given.port)
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()
