"""Jobs side by side: where their recipes differ."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fed_compute.protocol.job import JobSpec

NOT_COMPARED = frozenset({"name", "description"})


@dataclass(frozen=True, slots=True)
class Difference:
    """One key of the recipe, like `training.lr`, and what each job says; None where a job has no such key."""

    key: str
    values: tuple[Any, ...]


def differences(specs: Sequence[JobSpec]) -> list[Difference]:
    """Return the keys in which some recipes are not all alike, with defaults filled in, in the recipe's order."""
    flat = [dict(_flat(spec.model_dump(mode="json"))) for spec in specs]
    keys = dict.fromkeys(key for one in flat for key in one)
    rows = [Difference(key, tuple(one.get(key) for one in flat)) for key in keys if key not in NOT_COMPARED]
    return [row for row in rows if any(value != row.values[0] for value in row.values)]


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
