"""The settings of both processes and the keys of a job file."""

import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any, get_args

from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from fed_compute.client.config import ClientSettings
from fed_compute.coordinator.settings import CoordinatorSettings
from fed_compute.protocol.architectures import BUILT_IN
from fed_compute.protocol.job import JobSpec
from fed_compute.simulator.attacks.registry import ATTACKS, attack_settings
from fed_compute.simulator.population import FleetSpec
from tools.site.markdown import code, plain, table
from tools.site.schemas import kind


def settings_of(process: type[BaseSettings]) -> dict[str, tuple[str, FieldInfo]]:
    """Return the settings of a process: the environment variable → the field's name, and the field."""
    prefix = process.model_config.get("env_prefix", "")
    found = {}
    for name, field in process.model_fields.items():
        alias = field.validation_alias
        variable = alias.choices[0] if isinstance(alias, AliasChoices) else f"{prefix}{name}".upper()
        found[str(variable)] = (name, field)
    return found


def coordinator_settings() -> str:
    """Return the table of the coordinator's settings."""
    return _settings(CoordinatorSettings)


def client_settings() -> str:
    """Return the table of the client's settings."""
    return _settings(ClientSettings)


def job_sections() -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield the tables of a job file: the name, empty for what stands outside of all, and its class."""
    yield "", JobSpec
    for name, field in JobSpec.model_fields.items():
        for section in _tables(field):
            yield name, section


def job_keys(section: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the keys of one table of a job file that are no tables themselves."""
    names = {name for name, _ in job_sections()}
    return {name: field for name, field in section.model_fields.items() if section is not JobSpec or name not in names}


def job_file() -> str:
    """Return every key of a job file by its table, and the built-in models."""
    parts = []
    for name, section in job_sections():
        schema = section.model_json_schema()["properties"]
        rows = [
            (code(key), kind(schema[key]), code(_default(field)), plain(field.description))
            for key, field in job_keys(section).items()
        ]
        title = f"## `[{name}]`" if name else "## Outside of all tables"
        about = inspect.getdoc(section) if name else "These stand at the top of the file, before the first table."
        parts.append(f"{title}\n\n{about}\n\n{table(('key', 'values', 'default', 'meaning'), rows)}")
    return "\n\n".join([*parts, _models()])


def fleet_sections(section: type[BaseModel] = FleetSpec, title: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield the tables of a fleet file: the title, empty for what stands outside of all, and its class."""
    yield title, section
    for name, field in section.model_fields.items():
        for inner in _tables(field):
            yield from fleet_sections(inner, f"{title}.{name}".lstrip("."))


def fleet_file() -> str:
    """Return every key of a fleet file by its table."""
    parts = []
    for title, section in fleet_sections():
        schema = section.model_json_schema()
        rows = [
            (
                code(key),
                kind(schema["properties"][key], schema.get("$defs")),
                "required" if field.is_required() else code(_default(field)),
                plain(field.description),
            )
            for key, field in section.model_fields.items()
            if not _tables(field)
        ]
        heading = f"## `{title}`" if title else "## Outside of all tables"
        about = inspect.getdoc(section) or ""
        parts.append(f"{heading}\n\n{about}\n\n{table(('key', 'values', 'default', 'meaning'), rows)}")
    return "\n\n".join([*parts, _attacks()])


def _attacks() -> str:
    rows = [
        (
            code(name),
            ", ".join(
                code(setting if value is None else f"{setting} = {value:g}")
                for setting, value in attack_settings(name).items()
            ),
            plain(_first_sentence(make.func if isinstance(make, partial) else make)),
        )
        for name, make in ATTACKS.items()
    ]
    about = "`attack` of `[[attacker]]`, and its `settings`."
    return f"## Attacks\n\n{about}\n\n{table(('attack', 'settings', 'what'), rows)}"


def _first_sentence(documented: object) -> str:
    return (inspect.getdoc(documented) or "").partition("\n\n")[0].replace("\n", " ")


def _tables(field: FieldInfo) -> list[type[BaseModel]]:
    """Return the classes of the tables that a key stands for; none if it is a value."""
    parts = (field.annotation, *get_args(field.annotation))
    return [part for part in parts if inspect.isclass(part) and issubclass(part, BaseModel)]


def _settings(process: type[BaseSettings]) -> str:
    schema = process.model_json_schema(by_alias=False)
    rows = [
        (
            code(variable),
            kind(schema["properties"][name], schema.get("$defs")),
            code(_default(field)),
            plain(field.description),
        )
        for variable, (name, field) in settings_of(process).items()
    ]
    return table(("variable", "values", "default", "meaning"), rows)


def _default(field: FieldInfo) -> str:
    default: Any = field.default
    if default is PydanticUndefined or default is None or default == ():
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)


def _models() -> str:
    parts = ["## Built-in models", "`name` of `[model]`, and its `args`. A plug-in model has the arguments of its own."]
    for name, (arguments, _) in BUILT_IN.items():
        schema = arguments.model_json_schema()["properties"]
        rows = [
            (code(key), kind(schema[key]), "required" if field.is_required() else code(_default(field)))
            for key, field in arguments.model_fields.items()
        ]
        about = inspect.getdoc(arguments) or ""
        parts += [f"### `{name}`", about, table(("argument", "values", "default"), rows)]
    return "\n\n".join(parts)
