"""The command line, read from the program itself."""

import inspect
from collections.abc import Iterator
from functools import cache

import click
import typer

from fed_compute.cli.main import app
from tools.site.markdown import code, plain, table

PROGRAM = "fed-compute"


@cache
def program() -> click.Command:
    """Return the whole command line."""
    return typer.main.get_command(app)


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield every command that does something, by its words: `fed-compute key create`."""
    yield from _below(PROGRAM, program())


def command_line() -> str:
    """Return a section for each command: what it does, its usage, its arguments and options."""
    return "\n\n".join(_section(words, command) for words, command in commands())


def parameters(command: click.Command) -> list[click.Parameter]:
    """Return the arguments and options of a command, without `--help`."""
    return [one for one in command.params if "--help" not in one.opts]


def names(parameter: click.Parameter) -> str:
    """Return how a parameter is written: `URL`, or `--name, -n`."""
    if isinstance(parameter, click.Argument):
        return (parameter.name or "").upper()
    return ", ".join([*parameter.opts, *parameter.secondary_opts])


def help_of(parameter: click.Parameter) -> str:
    """Return what a parameter says about itself."""
    return str(getattr(parameter, "help", None) or "")


def _below(words: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield words, command
        return
    for name, one in inner.items():
        if not one.hidden:
            yield from _below(f"{words} {name}", one)


def _section(words: str, command: click.Command) -> str:
    context = click.Context(command, info_name=words)
    usage = f"```text\n{words} {' '.join(command.collect_usage_pieces(context))}\n```"
    rows = [(code(names(one)), plain(help_of(one)), code(_default(one))) for one in parameters(command)]
    parts = [f"## `{words}`", inspect.cleandoc(command.help or ""), usage]
    parts += [table(("", "meaning", "default"), rows)] if rows else []
    parts += [inspect.cleandoc(command.epilog)] if command.epilog else []
    return "\n\n".join(parts)


def _default(parameter: click.Parameter) -> str:
    shown = getattr(parameter, "show_default", None)
    if isinstance(shown, str):
        return shown
    default = parameter.default
    if parameter.required or default is None or default is False or callable(default) or not str(default):
        return ""
    return str(default)
