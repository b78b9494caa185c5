"""Every kind of fault that the campaign knows, and how often the long one does it."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.fault.campaign.clocks import clock_jumps
from tests.fault.campaign.databases import locked_databases
from tests.fault.campaign.disk import why_no_disk
from tests.fault.campaign.disks import (
    failing_disks,
    flipped_models,
    flipped_updates,
    full_disks,
    power_cuts,
    quotas,
    read_only_disks,
)
from tests.fault.campaign.network import proxy_faults
from tests.fault.campaign.outcome import Outcome
from tests.fault.campaign.session import Ground
from tests.fault.campaign.signals import drains, freezes, kills
from tests.fault.campaign.wire import why_no_wire
from tests.fault.campaign.wires import bad_wires


def _always() -> None:
    return None


@dataclass(frozen=True)
class Kind:
    """One kind of fault.

    `name` is also its option on the command line; `batch` trials share one data folder; `total` is
    what the long campaign does. `why_not` says what it lacks on this machine.
    """

    name: str
    run: Callable[[Ground, int], Outcome]
    batch: int
    total: int
    why_not: Callable[[], str | None] = _always


KINDS = (
    Kind("kills", kills, batch=25, total=500),
    Kind("freezes", freezes, batch=10, total=20),
    Kind("drains", drains, batch=10, total=25),
    Kind("proxy-faults", proxy_faults, batch=8, total=200),
    Kind("wire-faults", bad_wires, batch=8, total=20, why_not=why_no_wire),
    Kind("power-cuts", power_cuts, batch=10, total=30, why_not=why_no_disk),
    Kind("full-disks", full_disks, batch=5, total=10, why_not=why_no_disk),
    Kind("quotas", quotas, batch=5, total=10),
    Kind("read-only-disks", read_only_disks, batch=5, total=5, why_not=why_no_disk),
    Kind("disk-errors", failing_disks, batch=5, total=5, why_not=why_no_disk),
    Kind("flipped-updates", flipped_updates, batch=5, total=5),
    Kind("flipped-models", flipped_models, batch=5, total=5),
    Kind("locks", locked_databases, batch=4, total=8),
    Kind("clock-jumps", clock_jumps, batch=6, total=12),
)
