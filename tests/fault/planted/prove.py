"""Prove that the fault tests see what they are for: plant one bug after the other, and look which test turns red.

    python -m tests.fault.planted.prove                  every bug, then the tree as it is
    python -m tests.fault.planted.prove fsync            one bug alone

Each patch beside this file takes one safeguard away. It is applied to a copy of the tree, in a temporary folder. The
patches hold hardly a line of context, so that changes nearby do not hurt them.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[3]
PATCHES = Path(__file__).parent
CLEAN = "nothing"
SIMULATION = "tests/fault/test_simulation.py::"
CRASH_POINTS = f"{SIMULATION}test_every_persistence_call_of_three_rounds_may_be_the_last_or_fail_or_tear"
HISTORIES = f"{SIMULATION}test_ten_thousand_operations_lose_nothing_and_count_nothing_twice"
CONFLICTS = "tests/contract/test_repositories.py::test_a_second_update_of_a_task_is_a_conflict"
WATCHERS = {
    "digest_check": HISTORIES,
    "fsync": CRASH_POINTS,
    "idempotency_check": HISTORIES,
    "lease_check": HISTORIES,
    "sequence_order": HISTORIES,
    "unique_constraint": CONFLICTS,
}
"""The test that is there for each planted bug. A simulated process is alone, so it never needs the constraint."""

ALL_PASSED, SOME_FAILED = 0, 1


def patch_of(bug: str) -> Path:
    """Return the patch that plants a bug."""
    return PATCHES / f"{bug}.patch"


def apply(patch: Path, tree: Path, *options: str) -> None:
    """Apply a patch to a tree.

    Raises:
        subprocess.CalledProcessError: if it does not fit; `stderr` says where.
    """
    # A folder inside another repository would be taken for a part of it, and the patch passed over.
    alone = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tree.parent)}
    command = ["git", "apply", "--unidiff-zero", *options, str(patch)]
    subprocess.run(command, cwd=tree, env=alone, check=True, capture_output=True, text=True)


def red_tests(bug: str, tests: Sequence[str]) -> list[str]:
    """Return which of the tests fail in a copy of the tree with a bug; `CLEAN` plants none.

    Raises:
        RuntimeError: if the tests did not run.
    """
    with _copy() as tree:
        if bug != CLEAN:
            apply(patch_of(bug), tree)
        options = ["-q", "--tb=no", "-rf", "-p", "no:cacheprovider", "-o", "pythonpath=src"]  # the copy, not the tree
        command = [sys.executable, "-m", "pytest", *tests, *options]
        run = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    if run.returncode not in (ALL_PASSED, SOME_FAILED):
        raise RuntimeError(f"pytest ended with {run.returncode}:\n{run.stdout}{run.stderr}")
    return re.findall(r"^FAILED (.+?)(?: - .*)?$", run.stdout, flags=re.MULTILINE)


@contextmanager
def _copy() -> Iterator[Path]:
    with TemporaryDirectory(prefix="fed-compute-planted-") as name:
        for part in ("src", "tests"):
            shutil.copytree(ROOT / part, Path(name) / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy2(ROOT / "pyproject.toml", name)
        yield Path(name)


def main() -> int:
    """Plant what the command line asks for; return 1 if a bug went unseen or the clean tree is red."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bugs", nargs="*", metavar="bug", help=f"of {', '.join(WATCHERS)} and {CLEAN!r}")
    bugs = parser.parse_args().bugs or [*WATCHERS, CLEAN]
    if unknown := {*bugs} - {*WATCHERS, CLEAN}:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    failures = 0
    for bug in bugs:
        tests = sorted({*WATCHERS.values()}) if bug == CLEAN else [WATCHERS[bug]]
        red = red_tests(bug, tests)
        failures += bool(red) if bug == CLEAN else not red
        _say(f"{bug}: {', '.join(red) or 'no test'} turned red")
    _say("each planted bug is seen, and nothing else is" if not failures else f"WRONG: {failures} of {len(bugs)}")
    return 1 if failures else 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
