"""The product's command with one thing about it changed, so that a test need not wait, or can plant a fault.

    altered.py [--busy-seconds S] [--clock-file FILE] [--unsynced] serve …

`--clock-file` names a file with a number of seconds by which the wall clock is off; it is read anew each time.
`--unsynced` leaves out every sync to disk: a fault that a campaign must find.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from fed_compute.cli.main import main
from fed_compute.storage.sql import database


def set_clock_by(file: Path) -> None:
    """Let the wall clock of this process be off by the number of seconds in a file."""
    real = time.time
    time.time = lambda: real() + float(file.read_text() or 0)


def stop_syncing() -> None:
    """Let this process believe that what it wrote is on disk."""
    os.fsync = lambda handle: None
    prepare = database._prepare_sqlite

    def prepare_unsynced(connection, record):
        prepare(connection, record)
        connection.execute("PRAGMA synchronous = OFF")

    database._prepare_sqlite = prepare_unsynced


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--busy-seconds", type=float)
    parser.add_argument("--clock-file", type=Path)
    parser.add_argument("--unsynced", action="store_true")
    options, rest = parser.parse_known_args()
    if options.busy_seconds is not None:
        database.BUSY_TIMEOUT_MILLISECONDS = int(options.busy_seconds * 1000)
    if options.clock_file is not None:
        set_clock_by(options.clock_file)
    if options.unsynced:
        stop_syncing()
    sys.exit(main(rest))
