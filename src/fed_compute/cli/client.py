"""`fed-compute client`: who takes part."""

import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from fed_compute.cli.admin_api import (
    DEFAULT_DATA_DIR,
    DEFAULT_URL,
    AsJson,
    DataDir,
    KeyFile,
    Limit,
    OverlapHours,
    Url,
    connect,
    id_in_path,
    name_in_path,
)
from fed_compute.cli.console import print_json, print_line
from fed_compute.cli.key import hand_over, old_key_facts, require_free
from fed_compute.cli.shown import date, show_facts, show_table, state, when

app = typer.Typer(no_args_is_help=True, help="Clients: list, show, approve, ban, unban, rotate.")

Name = Annotated[str, typer.Argument(help="The client's name.")]


@app.command("list")
def list_clients(
    only: Annotated[
        Literal["active", "pending", "banned"] | None, typer.Option("--state", help="Only those in this state.")
    ] = None,
    invite: Annotated[str | None, typer.Option(help="Only those that came with this invitation.")] = None,
    inviter: Annotated[str | None, typer.Option(help="Only those that this client has invited.")] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """List clients by name."""
    wanted = None if invite is None else id_in_path(invite)
    with connect(url, key_file, data_dir) as api:
        pages = api.pages("/admin/clients", "clients", limit=limit, state=only, invite_id=wanted, inviter=inviter)
        clients = list(pages)
    if as_json:
        print_json(clients)
        return
    now = time.time()
    show_table(
        ("client", "state", "registered", "last seen", "invitation", "reason"),
        [
            (
                client["client_id"],
                state(client["state"]),
                when(client["registered_at"], now=now),
                when(client["last_seen_at"], now=now),
                client["invite_id"] or "-",
                client["state_reason"] or "-",
            )
            for client in clients
        ],
        empty="no clients",
    )


@app.command()
def show(
    client: Name,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Show one client: its state, its keys, who invited it and whom it has invited."""
    with connect(url, key_file, data_dir) as api:
        found = api.get(f"/admin/clients/{name_in_path(client)}")
    if as_json:
        print_json(found)
        return
    now = time.time()
    quota = found["rounds_per_day"]
    show_facts(
        [
            ("client", found["client_id"]),
            ("state", state(found["state"])),
            *([("reason", found["state_reason"])] if found["state_reason"] else []),
            ("registered", date(found["registered_at"])),
            ("last seen", when(found["last_seen_at"], now=now)),
            ("lease", found["lease"] or "none"),
            ("quota", "none" if quota is None else f"{quota} training tasks within 24 hours"),
            ("invited by", _invited_by(found)),
            ("has invited", ", ".join(found["invited"]) or "nobody"),
            ("machine", found["capabilities"]),
        ]
    )
    print_line("")
    show_table(
        ("id", "state", "made", "last used", "ends"),
        [
            (
                key["key_id"],
                state(key["state"]),
                when(key["created_at"], now=now),
                when(key["last_used_at"], now=now),
                when(key["expires_at"], now=now),
            )
            for key in found["keys"]
        ],
        empty="no keys",
    )


@app.command()
def approve(
    clients: Annotated[list[str], typer.Argument(help="The clients' names.")],
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Let pending clients take part."""
    with connect(url, key_file, data_dir) as api:
        for name in clients:
            print_line(f"{api.post(f'/admin/clients/{name_in_path(name)}/approve')['client_id']} is approved")


@app.command()
def ban(
    client: Name,
    reason: Annotated[str | None, typer.Option(help="Why, for other operators; the client is not told.")] = None,
    with_invited: Annotated[
        bool, typer.Option("--with-invited", help="Also all that came by its invitations, and by theirs.")
    ] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Shut a client out: its next request is refused, its lease is taken back, its invitations open nothing.

    Updates of it that were accepted stay counted.
    """
    with connect(url, key_file, data_dir) as api:
        done = api.post(f"/admin/clients/{name_in_path(client)}/ban", reason=reason, with_invited=with_invited)
    if as_json:
        print_json(done)
        return
    for banned in done["clients"]:
        print_line(f"{banned['client_id']} is banned")


@app.command()
def unban(
    client: Name,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Let a client that was shut out take part again. Those it has invited stay as they are."""
    with connect(url, key_file, data_dir) as api:
        done = api.post(f"/admin/clients/{name_in_path(client)}/unban")
    print_line(f"{done['client_id']} is active again")


@app.command()
def rotate(
    client: Name,
    overlap_hours: OverlapHours = 24.0,
    save: Annotated[
        Path | None, typer.Option(help="Write the key to this file, for its owner's eyes, and do not print it.")
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Make a new key for a client that lost its own, and print it this once. Its live keys end after the overlap."""
    require_free(save)
    with connect(url, key_file, data_dir) as api:
        made = api.post(f"/admin/clients/{name_in_path(client)}/rotate", overlap_hours=overlap_hours)
    hand_over(made, save=save, as_json=as_json, facts=[("client", client), *old_key_facts(made)])


def _invited_by(found: dict[str, Any]) -> str:
    if found["invite_id"] is None:
        return "nobody"
    by = f" of {found['inviter']}" if found["inviter"] else ""
    return f"invitation {found['invite_id']}{by}"
