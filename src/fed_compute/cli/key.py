"""`fed-compute key`: keys of operators, observers and clients."""

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
    id_of,
    own_key,
)
from fed_compute.cli.console import print_json, print_line
from fed_compute.cli.shown import date, note, show_facts, show_table, state, when
from fed_compute.coordinator.data_dir import write_private
from fed_compute.errors import SettingInvalid

app = typer.Typer(no_args_is_help=True, help="Keys: list, issue, rotate, revoke.")

Save = Annotated[
    Path | None, typer.Option(help="Write the key to this file, for its owner's eyes, and do not print it.")
]


@app.command("list")
def list_keys(
    scope: Annotated[Literal["client", "observer", "operator"] | None, typer.Option(help="Only of this scope.")] = None,
    client: Annotated[str | None, typer.Option(help="Only of this client.")] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """List keys, newest first. Secrets are kept nowhere and cannot be shown."""
    with connect(url, key_file, data_dir) as api:
        keys = list(api.pages("/admin/keys", "keys", limit=limit, scope=scope, client_id=client))
    if as_json:
        print_json(keys)
        return
    now = time.time()
    show_table(
        ("id", "scope", "whose", "state", "made", "last used", "ends"),
        [
            (
                key["key_id"],
                key["scope"],
                key["client_id"] or key["label"] or "-",
                state(key["state"]),
                when(key["created_at"], now=now),
                when(key["last_used_at"], now=now),
                when(key["expires_at"], now=now) if key["revoked_at"] is None else when(key["revoked_at"], now=now),
            )
            for key in keys
        ],
        empty="no keys",
    )


@app.command()
def issue(
    scope: Annotated[
        Literal["observer", "operator"], typer.Option(help="An observer reads everything and changes nothing.")
    ] = "observer",
    label: Annotated[str, typer.Option(help="Whose it is, to know it again.")] = "",
    days: Annotated[float | None, typer.Option(min=0.001, max=3650, help="Days until it ends.")] = None,
    save: Save = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Make a key for a person or a program, and print it this once."""
    require_free(save)
    with connect(url, key_file, data_dir) as api:
        made = api.post("/admin/keys", scope=scope, label=label, days=days)
    hand_over(made, save=save, as_json=as_json, facts=[("scope", scope), ("whose", label or "-")])


@app.command()
def rotate(
    key: Annotated[
        str | None, typer.Argument(help="The key's id; the key that this command uses if not given.")
    ] = None,
    overlap_hours: OverlapHours = 24.0,
    save: Save = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Make the successor of a key; the old one ends after the overlap.

    If it is the key that this command uses and it lies in a file, the file gets the new one.
    """
    held = own_key(key_file, data_dir)
    with connect(url, key_file, data_dir) as api:
        own = id_of(held.text)
        wanted = own if key is None else id_in_path(key)
        if save is None and wanted == own:
            save = held.file
        else:
            require_free(save)
        made = api.post(f"/admin/keys/{wanted}/rotate", overlap_hours=overlap_hours)
    hand_over(made, save=save, as_json=as_json, facts=old_key_facts(made))


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="The key's id.")],
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """End a key now. Its next request is refused."""
    with connect(url, key_file, data_dir) as api:
        ended = api.post(f"/admin/keys/{id_in_path(key)}/revoke")
    if as_json:
        print_json(ended)
    else:
        print_line(f"key {ended['key_id']} is revoked")


def require_free(save: Path | None) -> None:
    """Check that a key can be written to a file, before one is made that would then be lost.

    Raises:
        SettingInvalid: if the file exists already, or its folder does not.
    """
    if save is not None and (save.exists() or not save.parent.is_dir()):
        found = "exists already" if save.exists() else "is in a folder that does not exist"
        raise SettingInvalid(f"--save {save} {found}; name a new file")


def hand_over(made: dict[str, Any], *, save: Path | None, as_json: bool, facts: list[tuple[str, Any]]) -> None:
    """Give a new key to whoever asked for it, this once: on the screen, or in a file of mode 0600."""
    if save is not None:
        write_private(save, made["api_key"] + "\n")
        made = {**made, "api_key": None, "saved_to": str(save)}
    if as_json:
        print_json(made)
        return
    ends = "never" if made["expires_at"] is None else date(made["expires_at"])
    first = ("saved to", str(save)) if save is not None else ("key", made["api_key"])
    show_facts([first, ("id", made["key_id"]), *facts, ("ends", ends)])
    if save is None:
        note("Keep the key now: it is not shown again.")


def old_key_facts(made: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return what becomes of the keys before a renewed one."""
    if not made["old_keys"]:
        return [("old keys", "none was live")]
    names, ends_at = ", ".join(made["old_keys"]), made["old_keys_end_at"]
    return [("old keys", f"{names}, ended" if ends_at <= time.time() else f"{names}, good until {date(ends_at)}")]
