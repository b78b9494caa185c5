"""`fed-compute limits`: what the owner of this machine allows."""

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from fed_compute.cli.console import out, print_json, print_line
from fed_compute.client.config import load_settings
from fed_compute.client.limits import LimitSettings, limits_set


def limits(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """Show every limit that `join` would keep with the present environment variables, and what it means."""
    settings = load_settings()
    changed = limits_set(settings)
    values = {name.upper(): getattr(settings, name) for name in LimitSettings.model_fields}
    if as_json:
        print_json(values)
        return
    table = Table("setting", "value", "meaning", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for name, value in values.items():
        meaning = (LimitSettings.model_fields[name.lower()].description or "").partition(" Example: ")[0]
        style = "bold" if name in changed else ""
        table.add_row(Text(name, style), Text(shown(value), style), Text(meaning))
    out.print(table, soft_wrap=False)
    print_line("Bold: set by you. Give them as environment variables; `fed-compute join --help` has the most common.")


def shown(value: object) -> str:
    """Return a setting's value as it would be given."""
    match value:
        case None | ():
            return "–"
        case bool():
            return str(value).lower()
        case tuple():
            return ",".join(str(one) for one in value)
        case float():
            return f"{value:g}"
    return str(value)
