"""Writes examples/in_a_notebook.ipynb from examples/in_a_notebook.py: one cell for each `# %%`."""

import json
import re
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parent.parent / "examples" / "in_a_notebook.py"


def notebook(script: str) -> str:
    """Return a script with `# %%` marks as a notebook: what stands behind a mark becomes text above its cell."""
    title, *parts = re.split(r"^# %%[ ]*", script, flags=re.MULTILINE)
    cells = [_text(title.strip().strip('"'))]
    for part in parts:
        heading, _, code = part.partition("\n")
        cells += [_text(heading.strip())] if heading.strip() else []
        cells.append(_cell("code", code.strip(), execution_count=None, outputs=[]))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    document = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _text(markdown: str) -> dict[str, Any]:
    return _cell("markdown", markdown)


def _cell(kind: str, text: str, **others: Any) -> dict[str, Any]:
    return {"cell_type": kind, "metadata": {}, "source": text.splitlines(keepends=True), **others}


if __name__ == "__main__":
    SCRIPT.with_suffix(".ipynb").write_text(notebook(SCRIPT.read_text(encoding="utf-8")), encoding="utf-8")
