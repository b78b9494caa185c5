"""A coordinator or client process that never outlives the demonstration that started it.

    python -m fed_compute.cli.demo.child client         as `python -m fed_compute.client`
    python -m fed_compute.cli.demo.child serve …        as `fed-compute serve …`, and so any command

Standard input is a pipe that the parent holds open and never writes to. However the parent ends,
the system closes the pipe, and that ends the child at once: coordinator and clients are made to
survive being cut off at any moment.
"""

import os
import sys
import threading

ABANDONED = 1
"""Exit code of a child whose parent is gone."""

CLIENT = "client"


def main(arguments: list[str]) -> int:
    """Run one command and return its exit code, or end with the parent."""
    threading.Thread(target=_end_with_parent, name="parent-guard", daemon=True).start()
    return _run(arguments)


def _run(arguments: list[str]) -> int:
    # Imported only now: it takes seconds, and the guard should stand by then. A client does without
    # the command line, which would load the coordinator's libraries too.
    if arguments == [CLIENT]:
        from fed_compute.client.__main__ import main as run_client

        return run_client()
    from fed_compute.cli.main import main as run_command

    return run_command(arguments)


def _end_with_parent() -> None:
    # os.read and not sys.stdin: its lock would be in the way of the interpreter's own end.
    while os.read(0, 1):
        continue
    os._exit(ABANDONED)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # everything is closed; taking torch apart would take seconds more
