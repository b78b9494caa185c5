"""Faults by the hundred against a real coordinator, and a table of what came of them.

    make fault                                            every kind, as often as docs/reliability.md says: hours
    make fault ARGS="--minutes 10"                        as much as fits, every kind in turn
    make fault ARGS="--only kills power-cuts --kills 50"
    make fault ARGS="--soak 30 --clients 200"             no faults, for half an hour

The exit code is 1 if an acknowledged update was lost or doubled, a promise broken, or an answer unexpected.
"""

import argparse
import json
import os
import platform
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.fault.campaign.campaign import Campaign
from tests.fault.campaign.kinds import KINDS
from tests.fault.campaign.outcome import Outcome
from tests.fault.campaign.session import Ground
from tests.fault.campaign.soak import soak
from tests.fault.campaign.table import facts, table

WIDTH = 140


def main() -> int:
    """Run what the command line asks for, show a table, and return the exit code."""
    options, console = _options(), Console(width=WIDTH, markup=False, highlight=False)
    place = Path(tempfile.mkdtemp(prefix="fed-compute-faults-", dir=options.folder))
    run = _soak if options.soak else _faults
    outcomes, course = run(options, console, place)
    console.print(table(outcomes))
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "seed": options.seed,
        "kinds": [facts(outcome) for outcome in outcomes],
        **course,
    }
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    if all(outcome.is_sound for outcome in outcomes):
        place.rmdir()
        return 0
    console.print(f"something was found; logs and data are in {place}")
    return 1


def _faults(options: argparse.Namespace, console: Console, place: Path) -> tuple[list[Outcome], dict[str, Any]]:
    wanted = {}
    for kind in KINDS:
        if options.only and kind.name not in options.only:
            continue
        if (reason := kind.why_not()) is not None:
            console.print(f"{kind.name} are left out: {reason}")
        else:
            wanted[kind] = options.counts[kind.name]
    campaign = Campaign(wanted, seed=options.seed, place=place, tell=console.print)
    campaign.run(minutes=options.minutes)
    return [outcome for outcome in campaign.outcomes.values() if outcome.trials], {}


def _soak(options: argparse.Namespace, console: Console, place: Path) -> tuple[list[Outcome], dict[str, Any]]:
    folder = place / "soak"
    folder.mkdir()
    ...
