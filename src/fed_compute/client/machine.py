"""What this machine is, as hints for the coordinator."""

import os
from importlib.metadata import version

from fed_compute.client.trainer import cuda_available
from fed_compute.protocol.messages import Capabilities


def capabilities() -> Capabilities:
    """Return processor count, memory, CUDA and the client's version. What the system does not say is left out."""
    return Capabilities(
        cpu_count=os.cpu_count(),
        memory_bytes=_memory_bytes(),
        cuda=cuda_available(),
        client_version=version("fed-compute"),
    )


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not every system has sysconf or these names
        return None
