"""`fed-compute leaderboard`: who earned most."""

from typing import Annotated, Literal

import typer

from fed_compute.cli.admin_api import DEFAULT_URL, AsJson, Url, connect_open
from fed_compute.cli.console import print_json, print_line
from fed_compute.cli.shown import show_table
from fed_compute.client.answers import printable

_SPANS = {"all": "since the beginning", "week": "in the last 7 days", "day": "in the last 24 hours"}


def leaderboard(
    teams: Annotated[bool, typer.Option("--teams", help="Teams instead of clients.")] = False,
    window: Annotated[Literal["all", "week", "day"], typer.Option(help="Which earnings count.")] = "all",
    limit: Annotated[int, typer.Option(min=1, max=200, help="Show at most so many places.")] = 20,
    offset: Annotated[int, typer.Option(min=0, help="Leave out so many places before them.")] = 0,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show clients or teams by what they earned, credit in escrow included. Anybody may look."""
    whose = "teams" if teams else "clients"
    with connect_open(url) as api:
        page = api.get("/leaderboard", window=window, of=whose, limit=limit, offset=offset)
    if as_json:
        print_json(page)
        return
    if teams:
        rows = [(f"{place['rank']}", printable(place["name"]), f"{place['tokens']:,.2f}") for place in page["teams"]]
        show_table(("rank", "team", "tokens"), rows, empty="no team has earned anything yet")
    else:
        show_table(
            ("rank", "client", "tokens", "in escrow", "a day", "updates", "team"),
            [
                (
                    f"{place['rank']}",
                    printable(place["name"]),
                    f"{place['tokens']:,.2f}",
                    f"{place['pending_tokens']:,.2f}",
                    f"{place['recent_average']:,.2f}",
                    f"{place['updates_counted']:,}",
                    printable(place["team"] or "-"),
                )
                for place in page["clients"]
            ],
            empty="nobody has earned anything yet",
        )
    if page[whose]:
        print_line(f"{page['total']:,} {whose} {_SPANS[window]}")
