"""`fed-compute invite`: invitations for newcomers."""

import time
from typing import Annotated
from urllib.parse import urlsplit

import typer

from fed_compute.cli.admin_api import (
    DEFAULT_DATA_DIR,
    DEFAULT_URL,
    AsJson,
    DataDir,
    KeyFile,
    Limit,
    Url,
    connect,
    id_in_path,
)
from fed_compute.cli.console import print_json, print_line
from fed_compute.cli.shown import date, note, show_facts, show_table, state, when

app = typer.Typer(no_args_is_help=True, help="Invitations: create, list, revoke.")

_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


@app.command()
def create(
    uses: Annotated[int, typer.Option(min=1, max=10_000, help="How many clients may come with it.")] = 1,
    days: Annotated[float, typer.Option(min=0.001, max=365, help="Days until it ends.")] = 7.0,
    rounds_per_day: Annotated[
        int | None, typer.Option(min=1, help="Training tasks that each of them may take within 24 hours.")
    ] = None,
    inviter: Annotated[
        str | None, typer.Option(help="The client on whose word it is made: `client ban --with-invited` cuts its tree.")
    ] = None,
    label: Annotated[str, typer.Option(help="Whom it is for, to know it again.")] = "",
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Make an invitation, and print it this once, with the line that a volunteer types."""
    with connect(url, key_file, data_dir) as api:
        made = api.post(
            "/admin/invites", uses=uses, days=days, rounds_per_day=rounds_per_day, inviter=inviter, label=label
        )
    line = f"fed-compute join {api.url} --invite {made['invite']}"
    if as_json:
        print_json({**made, "join": line})
        return
    show_facts(
        [
            ("id", made["invite_id"]),
            ("for", f"{made['uses']} client{'s' if made['uses'] > 1 else ''}{f', {label}' if label else ''}"),
            ("ends", date(made["expires_at"])),
            *([("each", f"{rounds_per_day} training tasks within 24 hours")] if rounds_per_day else []),
        ]
    )
    print_line("")
    print_line(line)
    print_line("")
    if urlsplit(api.url).hostname in _THIS_MACHINE:
        note("Put in the address under which volunteers reach this coordinator.")
    note("Keep the line now: the invitation is not shown again.")


@app.command("list")
def list_invites(
    inviter: Annotated[str | None, typer.Option(help="Only those of this client.")] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """List invitations, newest first."""
    with connect(url, key_file, data_dir) as api:
        invites = list(api.pages("/admin/invites", "invites", limit=limit, inviter=inviter))
    if as_json:
        print_json(invites)
        return
    now = time.time()
    show_table(
        ("id", "for", "inviter", "state", "used", "made", "ends"),
        [
            (
                invite["invite_id"],
                invite["label"] or "-",
                invite["inviter"] or "-",
                state(invite["state"]),
                f"{invite['used']} of {invite['uses']}",
                when(invite["created_at"], now=now),
                when(invite["expires_at"], now=now),
            )
            for invite in invites
        ],
        empty="no invitations",
    )


@app.command()
def revoke(
    invite: Annotated[str, typer.Argument(help="The invitation's id.")],
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """End an invitation now. Who came with it stays."""
    with connect(url, key_file, data_dir) as api:
        ended = api.post(f"/admin/invites/{id_in_path(invite)}/revoke")
    if as_json:
        print_json(ended)
    else:
        print_line(f"invitation {ended['invite_id']} is revoked; {ended['used']} client(s) came with it")
