"""Where commands write: results to standard output, everything else to standard error."""

import json
from typing import Any

from rich.console import Console

from fed_compute.client.answers import printable
from fed_compute.protocol.redaction import redact

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def print_line(text: str) -> None:
    """Write one line of result as it is, without markup."""
    out.print(text, markup=False)


def print_json(document: Any) -> None:
    """Write one JSON document and nothing else, for scripts."""
    out.print(json.dumps(document, indent=2), markup=False)


def complain(text: str) -> None:
    """Write `error: …` in one paragraph to standard error. What looks like a key is left out."""
    err.print("[bold red]error:[/] ", end="")
    err.print("\n".join(printable(line) for line in redact(text).splitlines()), markup=False)
