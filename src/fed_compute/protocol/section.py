"""What every section of a TOML file of ours has in common, and what is said about a mistake in one."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


class Section(BaseModel):
    """A table of the file: unknown keys and values of another type are mistakes."""

    # strict: TOML has types, so `total = "5"` or `lr = true` is a mistake and not a number
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def key_of(error: ValidationError) -> str:
    """Return the key of the first mistake, its sections before it, with dots between."""
    return ".".join(str(part) for part in error.errors()[0]["loc"])


def explain(error: ValidationError, file: type[BaseModel], *, whole: str) -> str:
    """Say what is wrong with a file of this type, at most three mistakes: key, problem, nearest known key.

    `whole` names the file where the mistake is in no single key.
    """
    problems = error.errors()
    unknown = [problem["loc"] for problem in problems if problem["type"] == "extra_forbidden"]
    # a table whose name is misspelt is missing too, which says nothing more
    problems = [one for one in problems if one["type"] != "missing" or not _is_misspelt(one["loc"], unknown)]
    return "; ".join(_told(problem, file, whole) for problem in problems[:3])


def _told(problem: Mapping[str, Any], file: type[BaseModel], whole: str) -> str:
    """Say one mistake."""
    where = ".".join(str(part) for part in problem["loc"])
    match problem["type"]:
        case "extra_forbidden":
            return f"unknown key {where!r}{_nearest(problem['loc'], file)}"
        case "missing":
            return f"{where} is missing and has to be given"
        case "model_type" | "dict_type":
            return f"{where or whole}: found {_shown(problem['input'])}, wanted a table of keys"
        case "list_type":
            return f"{where or whole}: found {_shown(problem['input'])}, wanted a list, for tables written [[{where}]]"
    found = f", found {_shown(problem['input'])}" if problem["loc"] else ""
    hint = ""
    if problem["type"] == "literal_error":
        hint = _nearest_word(problem["input"], problem["ctx"]["expected"])
    return f"{where or whole}: {problem['msg'].removeprefix('Value error, ')}{found}{hint}"


def _is_misspelt(place: tuple[int | str, ...], unknown: Sequence[tuple[int | str, ...]]) -> bool:
    """Say whether one of the unknown keys stands where this one is missing, and is nearly it."""
    beside = [str(other[-1]) for other in unknown if other[:-1] == place[:-1]]
    return bool(difflib.get_close_matches(str(place[-1]), beside, n=1))


def _shown(value: object) -> str:
    if isinstance(value, int) and abs(value) >= 2**64:  # Python refuses to write very long ones
        return "a number of more than 64 bits"
    return repr(value)[:60]


def _nearest(place: tuple[int | str, ...], file: type[BaseModel]) -> str:
    """Suggest a known key for an unknown one: the nearest spelling, in its own section first."""
    key = ".".join(part for part in place if isinstance(part, str))  # without the numbers of a list's entries
    known = list(known_keys(file))
    section, _, leaf = key.rpartition(".")
    siblings = [name for name in known if name.rpartition(".")[0] == section]
    by_leaf = {name.rpartition(".")[2]: name for name in known}
    match = (
        [by_leaf[leaf]]
        if leaf in by_leaf
        else difflib.get_close_matches(key, siblings, n=1, cutoff=0.5)
        or [by_leaf[name] for name in difflib.get_close_matches(leaf, list(by_leaf), n=1, cutoff=0.6)]
    )
    if match:
        return f", did you mean {match[0]!r}?"
    return f"; known here: {', '.join(sorted(name.rpartition('.')[2] for name in siblings))}" if siblings else ""


def _nearest_word(found: object, wanted: str) -> str:
    """Suggest one of the quoted words of what was wanted."""
    match = difflib.get_close_matches(str(found), re.findall(r"'([^']*)'", wanted), n=1)
    return f", did you mean {match[0]!r}?" if match else ""


def known_keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield every key of a file of this type, its sections before it, with dots between; sections too."""
    for name, field in section.model_fields.items():
        yield prefix + name
        for kind in _kinds(field.annotation):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from known_keys(kind, f"{prefix}{name}.")


def _kinds(annotation: Any) -> Iterator[Any]:
    """Yield an annotation and everything that it is made of."""
    yield annotation
    for part in get_args(annotation):
        yield from _kinds(part)
