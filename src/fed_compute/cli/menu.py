"""How the help is ordered: under which heading each command stands, and how it is used.

Commands are found by their whole name (`key rotate`), so that a command's file says what it does, and this page how the
whole looks. A test holds every command to an entry, and every example to the program.
"""

import inspect
from collections.abc import Iterator, Mapping

import typer

OPERATE, TAKE_PART, LOOK, KEEP_SAFE = "Operate", "Take part", "Look", "Keep safe"


HEADINGS: Mapping[str, str] = {
    "serve": OPERATE, "job": OPERATE, "round": OPERATE, "key": OPERATE, "invite": OPERATE, "client": OPERATE,
    "join": TAKE_PART, "status": TAKE_PART, "pause": TAKE_PART, "resume": TAKE_PART, "finish": TAKE_PART,
    "limits": TAKE_PART, "sent": TAKE_PART,
    "demo": LOOK, "simulate": LOOK, "events": LOOK, "leaderboard": LOOK, "model": LOOK,
    "doctor": KEEP_SAFE, "verify": KEEP_SAFE, "backup": KEEP_SAFE, "restore": KEEP_SAFE,
}  # fmt: skip

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "serve": ("serve", "serve --job job.toml --host 0.0.0.0 --port 8000 --data-dir /srv/fed-compute"),
    "job create": ("job create job.toml", "job create job.toml --first-model start.safetensors"),
    "job list": ("job list", "job list --json"),
    "job show": ("job show default", "job show default --limit 50"),
    "job watch": ("job watch default", "job watch default --json"),
    "job pause": ("job pause default",),
    "job resume": ("job resume default",),
    "job stop": ("job stop default", "job stop default --yes"),
    "job export": ("job export default", "job export default --out default.zip --models latest"),
    "round show": ("round show 12",),
    "round close": ("round close 12",),
    "model list": ("model list --job default",),
    "model get": ("model get latest --job default",),
    "model export": ("model export latest --format onnx", "model export v3 --format state_dict --out digits.pt"),
    "model diff": ("model diff v3 latest", "model diff v1 latest --by relative --json"),
    "key list": ("key list", "key list --scope operator --json"),
    "key issue": ("key issue --scope observer --label grafana --days 90 --save grafana.key",),
    "key rotate": ("key rotate", "key rotate a1B2c3D4e5 --overlap-hours 1"),
    "key revoke": ("key revoke a1B2c3D4e5",),
    "invite create": ("invite create --uses 20 --days 14 --label workshop",),
    "invite list": ("invite list", "invite list --json"),
    "invite revoke": ("invite revoke a1B2c3D4e5",),
    "client list": ("client list", "client list --state pending"),
    "client show": ("client show lab-1",),
    "client approve": ("client approve lab-1 lab-2",),
    "client ban": ("client ban lab-1 --reason 'sends noise' --with-invited",),
    "client unban": ("client unban lab-1",),
    "client rotate": ("client rotate lab-1 --save lab-1.key",),
    "join": (
        "join http://localhost:8000 --data digits,part=1/5",
        "join https://train.example.org --name lab-1 --data npz:mine.npz --hours 22-6",
    ),
    "status": ("status", "status lab-1 --json"),
    "pause": ("pause", "pause lab-1 --for 2h"),
    "resume": ("resume", "resume lab-1"),
    "finish": ("finish", "finish lab-1"),
    "limits": ("limits", "limits --json"),
    "sent": ("sent", "sent --last 100"),
    "demo": ("demo", "demo --clients 8 --rounds 30 --drop 0.2"),
    "simulate": (
        "simulate --clients 1000",
        "simulate job.toml --behavior volunteer --seed 1",
        "simulate job.toml --sweep lr=0.01,0.1 rule=fedavg,robust",
    ),
    "events": ("events", "events --follow --kind round_closed --kind version_published", "events --since 2h --json"),
    "leaderboard": ("leaderboard", "leaderboard --teams --window week --json"),
    "doctor": ("doctor --port 8000", "doctor --url https://train.example.org --key-file lab-1.key"),
    "verify": ("verify fed-compute-data", "verify fed-compute-data --json"),
    "backup": ("backup monday.tar --data-dir fed-compute-data",),
    "restore": ("restore monday.tar --data-dir restored",),
}


def dress(app: typer.Typer) -> None:
    """Give every command of an app its heading and its examples, and its text lines as long as the screen is wide."""
    for name, command in walk(app):
        command.help = _flowing(inspect.getdoc(command.callback) or "")
        command.rich_help_panel = HEADINGS.get(name)
        command.epilog = _epilog(command.epilog, EXAMPLES.get(name, ()))
    for group in app.registered_groups:
        group.rich_help_panel = HEADINGS.get(group.name or "")


def walk(app: typer.Typer, *above: str) -> Iterator[tuple[str, typer.models.CommandInfo]]:
    """Yield every command of an app with its whole name."""
    for command in app.registered_commands:
        function = command.callback.__name__ if command.callback is not None else ""
        yield " ".join((*above, command.name or function.replace("_", "-"))), command
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from walk(group.typer_instance, *above, group.name or "")


def _flowing(text: str) -> str:
    """Return a text with one line for each paragraph."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _epilog(first: str | None, examples: tuple[str, ...]) -> str | None:
    """Return a command's last words: one paragraph a line."""
    lines = [first] if first else []
    if examples:
        lines += ["Examples:", *(f"$ fed-compute {example}" for example in examples)]
    return "\n\n".join(lines) or None
