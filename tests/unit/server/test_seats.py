"""Places for updates that arrive: so many a client, so many in all."""

from contextlib import ExitStack

import pytest

from fed_compute.errors import TooManyUploads, UploadsFull
from fed_compute.ids import ClientId
from fed_compute.server.seats import Seats

ANNA, BOB, CARL = ClientId("anna"), ClientId("bob"), ClientId("carl")


def take(seats: Seats, client: ClientId | None) -> None:
    """Take a place and leave it."""
    with seats.taken(client):
        pass


def test_a_client_has_so_many_places_and_others_have_theirs() -> None:
    seats = Seats(per_client=2, in_all=16)
    with seats.taken(ANNA), seats.taken(ANNA):
        with pytest.raises(TooManyUploads, match="sends 2 updates") as refusal:
            take(seats, ANNA)
        take(seats, BOB)
    assert refusal.value.status == 429
    take(seats, ANNA)


def test_there_are_so_many_places_in_all() -> None:
    seats = Seats(per_client=2, in_all=3)
    with ExitStack() as held:
        for client in (ANNA, BOB, None):
            held.enter_context(seats.taken(client))
        for client in (CARL, None):
            with pytest.raises(UploadsFull, match="3 updates") as refusal:
                take(seats, client)
    assert (refusal.value.status, refusal.value.retry_after_seconds) == (503, 5.0)
    take(seats, CARL)


def test_a_place_is_given_back_whatever_becomes_of_the_upload() -> None:
    seats = Seats(per_client=1, in_all=1)
    for client in (ANNA, None):
        with pytest.raises(ConnectionError), seats.taken(client):
            raise ConnectionError
        take(seats, client)


def test_a_refused_client_holds_no_place() -> None:
    seats = Seats(per_client=1, in_all=2)
    with seats.taken(ANNA):
        for _ in range(5):
            with pytest.raises(TooManyUploads):
                take(seats, ANNA)
        take(seats, BOB)
