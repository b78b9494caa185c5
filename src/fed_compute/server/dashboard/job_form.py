"""A job file and a few fields beside it that say the same: what is changed in one is changed in the other.

The file is what counts. A form sends three things: the file, the fields, and the file that the fields were read
from. Fields that differ from that one were changed by hand, and are written into the file; all else of the file
stays as it is, comments too.
"""

import tomllib
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, get_args

import tomlkit
from tomlkit.exceptions import TOMLKitError

from fed_compute.errors import JobFileInvalid
from fed_compute.protocol.aggregation_section import RuleName, ServerOptimizerName
from fed_compute.protocol.architectures import BUILT_IN
from fed_compute.protocol.job import ClientOptimizer, Compression, Encoding, JobSpec, Loss


@dataclass(frozen=True, slots=True)
class Field:
    """One key of the job file with a field of its own. `kind` says how it is written; `choices` are all there are."""

    key: str
    label: str
    kind: Literal["text", "number", "table"] = "text"
    choices: tuple[str, ...] = ()
    hint: str = ""
    is_broad: bool = False

    @property
    def name(self) -> str:
        """The name of the input that holds it."""
        return f"field.{self.key}"

    @property
    def default(self) -> str:
        """What holds where the job file says nothing."""
        return _shown(_found(_DEFAULTS, self.key))


_DEFAULTS = JobSpec().model_dump(mode="json", exclude={"name", "description", "model"})
_ARGUMENTS = "; ".join(f"{name}: {', '.join(kind.model_fields)}" for name, (kind, _) in BUILT_IN.items())

GROUPS: Mapping[str, tuple[Field, ...]] = {
    "Job": (
        Field("name", "Name", hint="Lower-case letters, digits, - and _."),
        Field("seed", "Seed", "number"),
        Field("description", "Description", is_broad=True),
    ),
    "Model": (
        Field("model.name", "Model", choices=tuple(sorted(BUILT_IN))),
        Field("model.args", "Arguments", "table", hint=_ARGUMENTS, is_broad=True),
    ),
    "Training": (
        Field("training.loss", "Loss", choices=get_args(Loss)),
        Field("training.optimizer", "Optimiser", choices=get_args(ClientOptimizer)),
        Field("training.lr", "Learning rate", "number"),
        Field("training.batch_size", "Batch size", "number"),
        Field("training.local_epochs", "Epochs in each round", "number"),
    ),
    "Rounds": (
        Field("rounds.total", "Rounds in all", "number"),
        Field("rounds.target_updates", "Updates that close a round", "number"),
        Field(
            "rounds.min_updates", "Updates at the least", "number", hint="With fewer at the deadline it is given up."
        ),
        Field("rounds.deadline_seconds", "Deadline in seconds", "number"),
        Field("rounds.mode", "Mode", choices=("sync", "async", "fedbuff")),
    ),
    "Aggregation": (
        Field("aggregation.rule", "Rule", choices=get_args(RuleName)),
        Field("aggregation.f", "Liars borne", "number", hint="A number, or a part of the round below 0.5."),
        Field("aggregation.server_optimizer", "Server optimiser", choices=get_args(ServerOptimizerName)),
    ),
    "Wire and evaluation": (
        Field("wire.encoding", "Encoding", choices=get_args(Encoding)),
        Field("wire.compression", "Compression", choices=get_args(Compression)),
        Field("evaluation.every_rounds", "Measured every … rounds", "number"),
    ),
}
FIELDS = tuple(field for group in GROUPS.values() for field in group)


def fields_of(text: str) -> dict[str, str]:
    """Return what each field shows for a job file, by key; empty where the file says nothing.

    Raises:
        JobFileInvalid: if it is not TOML.
    """
    data = _parsed(text)
    return {field.key: _shown(_found(data, field.key)) for field in FIELDS}


def job_text(spec: JobSpec) -> str:
    """Return a recipe as a job file, without what is as it would be anyway; the model is always named."""
    told = spec.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    head: dict[str, Any] = {name: told.pop(name) for name in ("name", "description", "seed") if name in told}
    told.pop("model", None)
    return tomlkit.dumps({**head, "model": spec.model.model_dump(mode="json"), **told})


def settled(text: str, fields: Mapping[str, str], base: str) -> str:
    """Return the job file with the fields that were changed written into it.

    Args:
        text: the job file as it was sent.
        fields: what the fields held, by key.
        base: the job file that the fields were read from.

    Raises:
        JobFileInvalid: if a field was changed and the file, or the field, is not TOML.
    """
    before = fields_of(base)
    changed = {field: fields[field.key].strip() for field in FIELDS if field.key in fields}
    changed = {field: value for field, value in changed.items() if value != before[field.key]}
    if not changed:
        return text
    try:
        document = tomlkit.parse(text)
        for field, value in changed.items():
            _write(document, field, value)
        return tomlkit.dumps(document)
    except (TOMLKitError, RecursionError) as error:
        raise JobFileInvalid(f"the fields cannot be written into the job file: {error}") from error


@dataclass(frozen=True, slots=True)
class Draft:
    """What a form holds: a job file, its fields by key, and the job file that the fields were read from."""

    text: str
    fields: Mapping[str, str]
    base: str

    @classmethod
    def of_text(cls, text: str) -> Self:
        """Return the draft whose fields say what a job file does.

        Raises:
            JobFileInvalid: if it is not TOML.
        """
        return cls(text, fields_of(text), text)

    def settled(self, *, in_fields: bool) -> Self:
        """Return the draft in which file and fields say the same.

        With `in_fields` somebody types in the fields: they stay as they are, and what they were read from follows
        them, so that what was changed in the file by hand meanwhile is not taken back by them. A file that is not
        TOML stays as it is, and so do its fields.

        Raises:
            JobFileInvalid: as `settled`.
        """
        text = settled(self.text, self.fields, self.base)
        if in_fields:
            return replace(self, text=text, base=settled(self.base, self.fields, self.base))
        try:
            return type(self).of_text(text)
        except JobFileInvalid:
            return self


def _write(document: tomlkit.TOMLDocument, field: Field, value: str) -> None:
    section, _, leaf = field.key.rpartition(".")
    table: Any = document.setdefault(section, tomlkit.table()) if section else document
    if not isinstance(table, MutableMapping):
        raise JobFileInvalid(
            f"{section} is {str(table)[:40]!r} in the job file, wanted a table of its own", key=section
        )
    if value:
        table[leaf] = _value(field, value)
    else:
        table.pop(leaf, None)


def _value(field: Field, text: str) -> Any:
    """Return what a field says; text that is no number stays text, which the check of the job names with its key."""
    if field.kind == "table":
        return tomlkit.value(text)
    if field.kind == "number":
        for read in (int, float):
            try:
                return read(text)
            except ValueError:
                continue
    return text


def _found(data: Mapping[str, Any], key: str) -> Any:
    found: Any = data
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        inline = tomlkit.inline_table()
        inline.update(value)
        return inline.as_string()
    return str(value)


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise JobFileInvalid(f"the job file is not TOML: {error}") from error
