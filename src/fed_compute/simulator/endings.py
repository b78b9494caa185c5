"""How a process ended that was to go on."""

import subprocess
from typing import IO, Any

_LONGEST_WORDS = 400


def ending_of(process: subprocess.Popen[Any], said: IO[bytes]) -> tuple[str, str]:
    """Wait for a process that ends; return how it ended, and its last words, if it `said` any, behind a comma.

    `said` is the file that its standard error went to.
    """
    status = process.wait()
    said.seek(0)
    words = said.read().decode(errors="replace").strip().splitlines()
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    return how, f", its last words: {words[-1][:_LONGEST_WORDS]}" if words else ""
