"""What this machine is and how it is powered."""

import os
from importlib.metadata import version

import psutil

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


def on_battery() -> bool:
    """Say whether this machine runs on its battery. One without a battery never does.

    A battery that does not say whether it is plugged in, or cannot be read, counts as in use.
    """
    try:
        battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    except OSError:
        return True
    return battery is not None and battery.power_plugged is not True


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not every system has sysconf or these names
        return None
