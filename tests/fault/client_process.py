"""A real client process."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fault.server import Server


@contextmanager
def client_process(
    server: Server, folder: Path, name: str, part: str, **settings: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A client process that really trains; it is killed in the end. Its log goes on where an earlier one's ended."""
    environment = {
        **os.environ,
        "COORDINATOR_URL": server.url,
        "CLIENT_NAME": name,
        "CLIENT_DATA": f"digits,part={part}",
        "CLIENT_STATE_DIR": str(folder / name),
        "SLEEP_BETWEEN_ROUNDS": "0.05",
        "RETRY_DELAY": "0.1",
        **settings,
    }
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "fed_compute.client"], stdout=log, stderr=log, env=environment
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()
