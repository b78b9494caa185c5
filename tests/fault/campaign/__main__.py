"""Faults by the hundred against a real coordinator, and a table of what came of them.

    make fault                                            every kind, as often as docs/reliability.md says
    make fault ARGS="--quick"                             a twentieth of that
    make fault ARGS="--minutes 10"                        as much as fits, every kind in turn
    make fault ARGS="--only kills power-cuts --kills 50"
    make fault ARGS="--soak 30 --clients 200"             no faults, for half an hour
    make fault ARGS="--restarts 20"                       how long a start takes, with and without a history
    make fault ARGS="--docs docs/reliability.md"          write the table into the page

The exit code is 1 if an acknowledged update was lost or doubled, a promise broken, or an answer unexpected.
"""

import argparse
import json
import os
import platform
import random
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

from rich.console import Console

from tests.fault.campaign.campaign import Campaign
from tests.fault.campaign.kinds import KINDS, Kind
from tests.fault.campaign.progress import bars
from tests.fault.campaign.report import Report, write_into
from tests.fault.campaign.restarts import imports, restarts
from tests.fault.campaign.session import Ground
from tests.fault.campaign.soak import soak

QUICK_SHARE = 20
HISTORIES = (0, 100)
WIDTH = 160
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> int:
    """Run what the command line asks for, show a table, and return the exit code."""
    options = _options()
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    place = Path(tempfile.mkdtemp(prefix="fed-compute-faults-", dir=options.folder))
    run = _soak if options.soak else _restarts if options.restarts else _faults
    report = run(options, place)
    console = Console(width=WIDTH, markup=False, highlight=False)
    console.print(report.table())
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, seed {options.seed}"
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": machine, **report.facts()}, indent=2) + "\n")
    if options.docs is not None:
        write_into(options.docs, report, machine=machine)
    if report.complaints:
        console.print(*report.complaints, f"logs and data of what was found are in {place}", sep="\n")
        return 1
    place.rmdir()
    return 0


def _faults(options: argparse.Namespace, place: Path) -> Report:
    wanted = {}
    for kind in KINDS:
        count = _count(options, kind)
        if count and (reason := kind.why_not()) is not None:
            Console(stderr=True).print(f"{kind.name} are left out: {reason}")
        elif count:
            wanted[kind] = count
    with bars({kind.name: count for kind, count in wanted.items()}) as shown:
        campaign = Campaign(wanted, seed=options.seed, place=place, bars=shown, warm=options.warm)
        campaign.run(minutes=options.minutes, workers=options.workers)
    return Report.of_faults([outcome for outcome in campaign.outcomes.values() if outcome.trials])


def _count(options: argparse.Namespace, kind: Kind) -> int:
    if options.only and kind.name not in options.only:
        return 0
    given: int | None = getattr(options, kind.name.replace("-", "_"))
    if given is not None:
        return given
    return max(1, kind.total // QUICK_SHARE) if options.quick else kind.total


def _soak(options: argparse.Namespace, place: Path) -> Report:
    folder, name = place / "soak", "soak, seconds"
    folder.mkdir()
    with bars({name: round(options.soak * 60)}) as shown:
        ground = Ground(folder, random.Random(options.seed))
        outcome, course = soak(
            ground, minutes=options.soak, clients=options.clients, tell=lambda seconds: shown.move(name, round(seconds))
        )
    if outcome.is_sound:
        shutil.rmtree(folder)
    return Report.of_soak(outcome, course)


def _restarts(options: argparse.Namespace, place: Path) -> Report:
    count, taken = options.restarts, {}
    with bars({"imports": count, **{_after(rounds): count for rounds in HISTORIES}}) as shown:
        taken["imports alone: no start can be faster"] = imports(count, tell=partial(shown.move, "imports"))
        for rounds in HISTORIES:
            folder = place / str(rounds)
            folder.mkdir()
            name = _after(rounds)
            taken[name] = restarts(folder, count, rounds=rounds, tell=partial(shown.move, name))
            shutil.rmtree(folder)
    return Report.of_restarts(taken)


def _after(rounds: int) -> str:
    return f"coordinator after SIGKILL, {rounds} rounds on record"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fault.campaign",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [kind.name for kind in KINDS]
    parser.add_argument("--quick", action="store_true", help=f"each kind 1/{QUICK_SHARE} as often, once at least")
    parser.add_argument("--only", nargs="+", choices=names, default=[], metavar="KIND", help=f"of {', '.join(names)}")
    for kind in KINDS:
        parser.add_argument(f"--{kind.name}", type=int, metavar="N", help=f"how many (default {kind.total})")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin nothing after so many")
    parser.add_argument("--workers", type=int, default=2, help="coordinators at a time (default %(default)s)")
    parser.add_argument("--warm", action="store_true", help="fork coordinators from a process that imported them")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="no faults; many clients for so long")
    parser.add_argument("--restarts", type=int, metavar="N", help="no faults; N starts of each, timed")
    parser.add_argument("--clients", type=int, default=200, help="of the soak (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of all chance but the threads' (default %(default)s)")
    parser.add_argument("--folder", type=Path, help="where data lies meanwhile (default: the system's)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the counts to this file")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="also write the table between the marks of this page")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
