"""Write constraints.txt: the exact version of everything that the `dev` extra installs.

Reads what the running environment holds, so install first, run the tests, then pin.
Local version labels (`2.13.0+cpu`) are dropped: they name a build, not a version.
"""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TARGET = Path(__file__).parent.parent / "constraints.txt"
ROOT = "fed-compute"
HEAD = "# What CI installs. Written by `make constraints`; do not edit by hand.\n"


def pins(root: str = ROOT, extras: frozenset[str] = frozenset({"dev"})) -> dict[str, str]:
    """Return name → version of every installed package that `root` with `extras` pulls in.

    Raises:
        PackageNotFoundError: if a package that is needed on this machine is not installed.
    """
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(canonicalize_name(root), extra) for extra in ("", *extras)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            package = distribution(name)
        except PackageNotFoundError as error:
            raise PackageNotFoundError(f"{name} is needed but not installed; run `make setup` first") from error
        found[name] = package.version.partition("+")[0]
        for requirement in map(Requirement, package.requires or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(requirement.name), wanted) for wanted in ("", *requirement.extras)]
    del found[canonicalize_name(root)]
    return found


def main() -> None:
    """Write the file and say how many pins it holds."""
    lines = [f"{name}=={version}\n" for name, version in sorted(pins().items())]
    TARGET.write_text(HEAD + "".join(lines), encoding="utf-8")
    print(f"{TARGET.name}: {len(lines)} pins")


if __name__ == "__main__":
    main()
