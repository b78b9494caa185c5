"""The leaderboard: who earned most, ever, this week, today."""

from fed_compute.coordinator.leaderboard import Window, client_page, team_page
from fed_compute.ids import ClientId
from fed_compute.rounds.rewards import MICRO
from tests.unit.coordinator.stand import Stand
from tests.unit.coordinator.test_incentives import take_part

DAY = 86_400.0


def places(stand: Stand, window: Window = "all", *, limit: int = 10, offset: int = 0) -> list[tuple[int, str, float]]:
    """Return rank, name and tokens of each place."""
    stand.core.incentives.catch_up()
    page = client_page(stand.core.store, window=window, now=stand.clock.now(), limit=limit, offset=offset)
    return [(p.ranked.rank, p.ranked.who, p.ranked.micro_tokens / MICRO) for p in page.places]


def play(stand: Stand) -> None:
    """Let anna work twice long ago, bob three times a few days ago, and carl once today."""
    stand.join("anna", "bob", "carl", "idle")
    for name, times, later in (("anna", 2, 5 * DAY), ("bob", 3, 3 * DAY), ("carl", 1, 0.0)):
        for _ in range(times):
            take_part(stand, name)
        stand.clock.advance(later)


def test_each_window_has_its_own_order(stand: Stand) -> None:
    play(stand)
    assert places(stand) == [(1, "bob", 30), (2, "anna", 20), (3, "carl", 10)]
    assert places(stand, "week") == [(1, "bob", 30), (2, "carl", 10)]
    assert places(stand, "day") == [(1, "carl", 10)]


def test_a_page_is_a_piece_of_the_whole_and_the_whole_is_counted(stand: Stand) -> None:
    play(stand)
    assert places(stand, limit=1, offset=1) == places(stand)[1:2]
    page = client_page(stand.core.store, window="all", now=stand.clock.now(), limit=1, offset=1)
    assert (page.total, page.since) == (3, None)
    assert client_page(stand.core.store, window="day", now=DAY, limit=1, offset=0).since == 0.0


def test_a_place_tells_the_team_what_is_pending_and_the_recent_average(stand: Stand) -> None:
    stand.join("anna")
    stand.core.teams.found(ClientId("anna"), "foxes")
    take_part(stand, "anna")
    stand.core.incentives.catch_up()
    (place,) = client_page(stand.core.store, window="all", now=stand.clock.now(), limit=9, offset=0).places
    assert (place.team, place.pending, place.recent_average, place.updates_counted) == ("foxes", 10 * MICRO, 10, 1)


def test_what_was_taken_back_does_not_count(stand: Stand) -> None:
    play(stand)
    stand.core.incentives.reverse(stand.updates(3)[0].task_id, note="x")
    assert places(stand)[:2] == [(1, "anna", 20), (1, "bob", 20)]


def test_teams_have_places_too(stand: Stand) -> None:
    stand.join("anna", "bob")
    _, code = stand.core.teams.found(ClientId("anna"), "foxes")
    stand.core.teams.join(ClientId("bob"), code)
    for name in ("anna", "bob"):
        take_part(stand, name)
    stand.core.incentives.catch_up()
    page = team_page(stand.core.store, window="week", now=stand.clock.now(), limit=9, offset=0)
    assert [(p.rank, p.who, p.micro_tokens) for p in page.places] == [(1, "foxes", 20 * MICRO)]
    assert page.total == 1
