"""The environment as settings: which variables cannot be used, and which are none."""

import difflib
import os
from collections.abc import Iterator, Mapping

from pydantic import AliasChoices, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from fed_compute.cli.doctor.judgements import Finding, judge_settings
from fed_compute.protocol.redaction import redact

OF_COMMANDS = frozenset({"FED_COMPUTE_OPERATOR_KEY"})
"""Variables that are read by commands and are no settings of a process."""


def settings(kind: type[BaseSettings], *, prefixes: tuple[str, ...], environ: Mapping[str, str]) -> list[Finding]:
    """Judge every variable of the environment that sets a field of `kind`, or looks as if it were meant to."""
    known = {variable: name for name, field in kind.model_fields.items() for variable in variables(kind, name, field)}
    unknown = [
        (name, next(iter(difflib.get_close_matches(name, [*known], n=1)), None))
        for name in sorted(environ)
        if name.startswith(prefixes) and name not in known and name not in OF_COMMANDS
    ]
    return judge_settings(list(_wrong(kind, environ)), unknown=unknown)


def variables(kind: type[BaseSettings], name: str, field: FieldInfo) -> Iterator[str]:
    """Yield the environment variables that set a field."""
    if isinstance(field.validation_alias, AliasChoices):
        yield from (choice for choice in field.validation_alias.choices if isinstance(choice, str) and choice.isupper())
    else:
        yield f"{kind.model_config.get('env_prefix', '')}{name}".upper()


def _wrong(kind: type[BaseSettings], environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each variable that cannot be used, with the reason; a secret's value is not repeated."""
    try:
        kind()
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            where = str(problem["loc"][0]) if problem["loc"] else "settings"
            name = _variable_of(kind, where, environ)
            field = next((info for known, info in kind.model_fields.items() if where.lower() == known), None)
            secret = field is None or SecretStr in getattr(field.annotation, "__args__", (field.annotation,))
            found = "" if secret else f", found {redact(str(environ.get(name, problem['input'])))[:80]!r}"
            yield name, f"{problem['msg'].removeprefix('Value error, ')}{found}"


def _variable_of(kind: type[BaseSettings], where: str, environ: Mapping[str, str]) -> str:
    """Return the variable that a finding is about: as the environment has it, else as it would be called."""
    prefix = str(kind.model_config.get("env_prefix", ""))
    candidates = [where.upper(), f"{prefix}{where}".upper()]
    return next((name for name in candidates if name in environ), candidates[-1])


def present() -> Mapping[str, str]:
    """Return this process's environment."""
    return os.environ
