"""Which settings a sweep tries: keys by their names, values as they are written, every combination of them."""

import difflib
import json
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Self

import numpy as np

from fed_compute.errors import SweepInvalid
from fed_compute.protocol.job import JobSpec
from fed_compute.protocol.section import known_keys

MOST_COMBINATIONS = 1_000
OF_THE_SIMULATION = (
    "attack",
    "attackers",
    "behavior",
    "clients",
    "data",
    "plan",
    "samples_per_client",
    "seed",
    "split",
)
"""Keys that are no part of a job: arguments of `simulate`, and who lies."""
ALIASES: Mapping[str, str] = {
    "clients_per_round": "rounds.target_updates",
    "epochs": "training.local_epochs",
    "learning_rate": "training.lr",
    "mode": "rounds.mode",
    "model": "model.name",
    "mu": "training.proximal_mu",
    "rounds": "rounds.total",
}
FREE = "model.args."
"""Arguments of a model are its own: any name may stand behind this."""

_USAGE = "wanted KEY=VALUE[,VALUE…], such as lr=0.01,0.1"
_VARIANTS = "{FedAvg={},FedProx={mu=0.1}}"
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def resolve(key: str) -> str:
    """Return the full name of a key: of a job, by its path, its last part if that is the only one, or an alias.

    Raises:
        SweepInvalid: if there is no such key, naming the nearest, or if several end so, naming all.
    """
    by_leaf = _by_leaf()
    if key in OF_THE_SIMULATION or key in _job_keys() or key.startswith(FREE):
        return key
    if key in ALIASES:
        return ALIASES[key]
    match by_leaf.get(key, []):
        case [only]:
            return only
        case [_, *_] as several:
            raise SweepInvalid(f"key {key!r} is of several sections; write {' or '.join(several)}", key=key)
    known = {*OF_THE_SIMULATION, *ALIASES, *by_leaf}
    leaf = key.rpartition(".")[2]
    nearest = [leaf] if leaf in known else difflib.get_close_matches(leaf, sorted(known), n=1, cutoff=0.5)
    hint = f", did you mean {_full(nearest[0])!r}?" if nearest else "; see docs/reference/job-file.md"
    raise SweepInvalid(f"unknown key {key[:80]!r}{hint}", key=key)


def parse_words(words: Sequence[str]) -> dict[str, list[Any]]:
    """Read `["lr=0.01,0.1", "rule=fedavg,robust"]`: values as in TOML, or as bare words.

    Raises:
        SweepInvalid: if a word is not of this form.
    """
    found: dict[str, list[Any]] = {}
    for word in words:
        key, equals, text = word.partition("=")
        values = list(_split(text)) if equals else []
        if not key or not values or "" in values:
            raise SweepInvalid(f"{word[:80]!r} names no values of a key; {_USAGE}")
        if key in found:
            raise SweepInvalid(f"key {key!r} is there twice; write all its values at once", key=key)
        found[key] = [_value(value) for value in values]
    return found


@dataclass(frozen=True, slots=True)
class Variant:
    """Settings under one name, by the full names of their keys: FedProx for `{"training.proximal_mu": 0.1}`."""

    name: str
    settings: Mapping[str, Any]


def written(value: Any) -> str:
    """Write a value so that `parse_words` reads it again; of a variant, its name."""
    if isinstance(value, Variant):
        return value.name
    if value is None:
        return "none"
    is_bare = isinstance(value, str) and list(_split(value)) == [value] and _value(value) == value
    return str(value) if is_bare else _toml(value)


@dataclass(frozen=True, slots=True)
class Grid:
    """Values for each key, in order; `names` are the full names of the keys, as `resolve` gives them.

    The values of a key may be `Variant`s instead; its name is then free.
    """

    axes: Mapping[str, tuple[Any, ...]]
    names: Mapping[str, str]

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Take values for each key: several in a list or a tuple, a single one for all combinations, or named settings.

        Raises:
            SweepInvalid: if a key is unknown, has no value or one of them twice, or if there are too many combinations.
        """
        if not given:
            raise SweepInvalid(f"a sweep without a key; {_USAGE}")
        axes = {key: _variants(key, values) or _several(values) for key, values in given.items()}
        names = {key: key if isinstance(next(iter(axes[key]), None), Variant) else resolve(key) for key in axes}
        grid = cls(axes, names)
        for key, values in axes.items():
            if twin := next((other for other in axes if other != key and names[other] == names[key]), None):
                raise SweepInvalid(f"{key!r} and {twin!r} are the same key; write all its values at once", key=key)
            if not values or any(value in values[:place] for place, value in enumerate(values)):
                raise SweepInvalid(f"{key} has {'a value twice' if values else 'no value'}, wanted each once", key=key)
        if len(grid) > MOST_COMBINATIONS:
            raise SweepInvalid(f"{len(grid):,} combinations, at most {MOST_COMBINATIONS:,} in one sweep")
        return grid

    def words(self) -> list[str]:
        """Return what `parse_words` reads it from."""
        words = []
        for key, values in self.axes.items():
            tables = {value.name: value.settings for value in values if isinstance(value, Variant)}
            words.append(f"{key}={_toml(tables) if tables else ','.join(written(value) for value in values)}")
        return words

    def __len__(self) -> int:
        count = 1
        for values in self.axes.values():
            count *= len(values)
        return count

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield every combination by the keys as they were given; the last key changes fastest."""
        return (dict(zip(self.axes, values, strict=True)) for values in product(*self.axes.values()))

    def settings(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a combination sets, by the full names of the keys.

        Raises:
            SweepInvalid: if a key is set twice, by itself and within a variant, or within two.
        """
        found: dict[str, Any] = {}
        for key, value in values.items():
            for name, one in (value.settings if isinstance(value, Variant) else {self.names[key]: value}).items():
                if name in found:
                    raise SweepInvalid(f"{name} is set twice, by {key} as well", key=name)
                found[name] = one
        return found

    @property
    def varied(self) -> tuple[str, ...]:
        """The keys that differ between rows of a comparison: those with several values, but for the seed."""
        return tuple(key for key, values in self.axes.items() if len(values) > 1 and self.names[key] != "seed")


def _several(values: Any) -> tuple[Any, ...]:
    if isinstance(values, np.ndarray):
        return tuple(values.tolist())
    return tuple(values) if isinstance(values, list | tuple | range) else (values,)


def _variants(key: str, given: Any) -> tuple[Variant, ...]:
    """Return named settings if that is what is given: a table of tables, in a list if it comes from a command line."""
    table = given[0] if isinstance(given, list) and len(given) == 1 else given
    if not isinstance(table, Mapping) or key == "behavior":
        return ()
    wrong = next((name for name, settings in table.items() if not isinstance(settings, Mapping)), None)
    if wrong is not None or not table:
        raise SweepInvalid(f"{key} has no settings for {wrong!r}, wanted as in {_VARIANTS}", key=key)
    return tuple(
        Variant(str(name), {resolve(inner): value for inner, value in settings.items()})
        for name, settings in table.items()
    )


def _toml(value: Any) -> str:
    """Write a value as TOML does within a line."""
    match value:
        case bool() | str():
            return json.dumps(value)
        case list() | tuple():
            return f"[{','.join(_toml(one) for one in value)}]"
        case Mapping():
            return f"{{{','.join(f'{_key(name)}={_toml(one)}' for name, one in value.items())}}}"
    return str(value)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def _job_keys() -> list[str]:
    """Return every key of a job file that a sweep may change, sections before it."""
    keys = list(known_keys(JobSpec))
    sections = {key.rpartition(".")[0] for key in keys}
    return [key for key in keys if key not in {*sections, "name", "description", "model.args"}]


def _by_leaf() -> dict[str, list[str]]:
    found = defaultdict(list)
    for key in _job_keys():
        found[key.rpartition(".")[2]].append(key)
    return found


def _full(name: str) -> str:
    ends = _by_leaf().get(name, [])
    return ALIASES.get(name) or (ends[0] if len(ends) == 1 and name not in OF_THE_SIMULATION else name)


def _split(text: str) -> Iterator[str]:
    """Yield what stands between commas, those inside brackets and quotation marks left out."""
    depth, quote, start = 0, "", 0
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "[]{}":
            depth += 1 if letter in "[{" else -1
        elif letter == "," and depth == 0:
            yield text[start:place].strip()
            start = place + 1
    yield text[start:].strip()


def _value(text: str) -> Any:
    if _NUMBER.fullmatch(text) and not re.fullmatch(r"[-+]?\d+", text):
        return float(text)  # also .5 and 1., which TOML does not know
    try:
        value = tomllib.loads(f"value = {text}")["value"] if "\n" not in text else text
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, str | int | float | bool | list | dict) else text
