"""A data specification: one line of text that says which samples a client trains on.

    digits
    digits,part=2/5,split=dirichlet,alpha=0.3,seed=7
    csv:/data/houses.csv,label=price
    imagefolder:/data/pets,size=32x32,gray=1

First the source, with its path after a colon if it takes one; then options `name=value` after
commas. A comma in a path is fine as long as no `name=` follows it.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal, get_args

from fed_compute.errors import DatasetInvalid
from fed_compute.protocol.suggestions import did_you_mean

Split = Literal["iid", "dirichlet", "sorted"]
COMMON_OPTIONS = ("part", "split", "alpha", "seed")
_OPTION = re.compile(r",([a-z_]+)=([^,]*)")
_PART = re.compile(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,8})")
_WHOLE = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True)
class DataSpec:
    """One parsed specification. `options` are the source's own; `part` counts from 1."""

    source: str
    path: str | None = None
    part: tuple[int, int] = (1, 1)
    split: Split = "iid"
    alpha: float = 0.5
    seed: int = 0
    options: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Write the specification in its shortest form; `parse_spec` reads it back."""
        words = [self.source if self.path is None else f"{self.source}:{self.path}"]
        words += [f"{name}={value}" for name, value in self.options.items()]
        default = DataSpec(self.source)
        if self.part != default.part:
            words.append(f"part={self.part[0]}/{self.part[1]}")
        words += [f"{name}={getattr(self, name)}" for name in ("split", "alpha", "seed")
                  if getattr(self, name) != getattr(default, name)]  # fmt: skip
        return ",".join(words)


def parse_spec(text: str) -> DataSpec:
    """Read a data specification.

    Raises:
        DatasetInvalid: saying what was found and wanted. Source names and source options are
            checked later, by the source.
    """
    options: dict[str, str] = {}
    end = len(text)
    for match in _trailing_options(text):
        name, value = match.groups()
        if name in options:
            raise DatasetInvalid(f"data specification {text[:200]!r} gives {name!r} twice")
        options[name] = value.strip()
        end = min(end, match.start())
    source, colon, path = text[:end].strip().partition(":")
    if not source or (colon and not path) or "," in source:
        raise DatasetInvalid(
            f"data specification {text[:200]!r} is not usable; wanted SOURCE[:PATH][,option=value…], "
            "for example digits,part=2/5"
        )
    return DataSpec(
        source=source,
        path=path if colon else None,
        part=_parse_part(options.pop("part", "1/1")),
        split=_parse_split(options.pop("split", "iid")),
        alpha=_parse_alpha(options.pop("alpha", "0.5")),
        seed=parse_whole("seed", options.pop("seed", "0")),
        options=options,
    )


def refuse_unknown_options(spec: DataSpec, known: Collection[str]) -> None:
    """Check that the source takes all options given to it.

    Raises:
        DatasetInvalid: naming the first unknown option, the nearest known one and all known ones.
    """
    everything = sorted({*known, *COMMON_OPTIONS})
    for name in spec.options:
        if name not in known:
            hint = did_you_mean(name, everything, cutoff=0.5)
            raise DatasetInvalid(f"{spec.source} has no option {name!r}{hint} known: {', '.join(everything)}")


def parse_whole(name: str, value: str) -> int:
    """Read a whole number of at most 18 digits.

    Raises:
        DatasetInvalid: if it is none.
    """
    if _WHOLE.fullmatch(value) is None:
        raise DatasetInvalid(f"{name}={value[:40]} is not usable; wanted a whole number from 0")
    return int(value)


def _trailing_options(text: str) -> list[re.Match[str]]:
    """Return the run of options at the end of the text; the same form earlier belongs to the path."""
    run: list[re.Match[str]] = []
    for match in _OPTION.finditer(text):
        run = [*run, match] if run and run[-1].end() == match.start() else [match]
    return run if run and run[-1].end() == len(text) else []


def _parse_part(value: str) -> tuple[int, int]:
    match = _PART.fullmatch(value)
    if match is None or int(match[1]) > int(match[2]):
        raise DatasetInvalid(f"part={value[:40]} is not usable; wanted i/n with 1 <= i <= n, for example part=2/5")
    return int(match[1]), int(match[2])


def _parse_split(value: str) -> Split:
    for known in get_args(Split):
        if value == known:
            return known  # type: ignore[no-any-return]
    hint = did_you_mean(value, get_args(Split), otherwise="")
    raise DatasetInvalid(f"split={value[:40]} is unknown{hint}; wanted {', '.join(get_args(Split))}")


def _parse_alpha(value: str) -> float:
    try:
        alpha = float(value)
    except ValueError:
        alpha = 0.0
    if not 1e-3 <= alpha <= 1e6:  # also refuses NaN; below this, float64 shares underflow to 0/0
        raise DatasetInvalid(f"alpha={value[:40]} is not usable; wanted a number from 0.001 to 1000000")
    return alpha
