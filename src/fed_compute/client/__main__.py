"""`python -m fed_compute.client`: one client, set up by environment variables only."""

import gc
import sys
from contextlib import closing

import structlog

from fed_compute.client.client import stop_on_signals
from fed_compute.client.config import load_settings
from fed_compute.client.logger import configure_logging
from fed_compute.client.observer import LogObserver
from fed_compute.client.stop_sign import StopSign
from fed_compute.client.wiring import build_client
from fed_compute.errors import FedComputeError
from fed_compute.protocol import tracing


def main() -> int:
    """Run a client until SIGTERM or SIGINT; return 0 then, and 1 after an error that only its owner can repair."""
    gc.freeze()  # nothing of the libraries is ever garbage, and to look through it all takes long at the end
    configure_logging("console" if sys.stderr.isatty() else "json")
    stop = StopSign()
    try:
        settings = load_settings()
        with (
            tracing.told_by("fed-compute-client", wanted=settings.client_tracing),
            closing(build_client(settings, LogObserver(), stop=stop)) as client,
            stop_on_signals(client, stop),
        ):
            client.run(stop=stop)
    except FedComputeError as error:
        structlog.get_logger("fed_compute.client").error("client_failed", code=error.code, why=error.message)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
