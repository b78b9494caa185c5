"""Of ten thousand who wait for work, as many are called as may find some."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack

from fed_compute.server.waiting_room import WaitingRoom

Places = list[asyncio.Future[None]]


def with_places(count: int, act: Callable[[WaitingRoom, Places], None]) -> list[int]:
    """Let so many take places, act, and return the numbers of those who were called."""

    async def story() -> list[int]:
        room = WaitingRoom()
        with ExitStack() as stack:
            places = [stack.enter_context(room.place(room.announced())) for _ in range(count)]
            act(room, places)
            return [number for number, place in enumerate(places) if place.done()]

    return asyncio.run(story())


def test_nobody_is_called_without_news() -> None:
    assert with_places(9, lambda room, places: room.call(9)) == []


def test_of_ten_thousand_only_so_many_are_called_as_there_is_work_for() -> None:
    def act(room: WaitingRoom, places: Places) -> None:
        room.announce()
        room.call(13)
        assert room.num_callable() == 10_000 - 13

    assert with_places(10_000, act) == list(range(13))


def test_whoever_was_called_in_vain_lets_the_others_go_first() -> None:
    """It takes its place anew, and knows the news already."""

    def act(room: WaitingRoom, places: Places) -> None:
        room.announce()
        room.call(2)
        with room.place(room.announced()) as again:
            room.call(9)
            assert not again.done()
            room.announce()
            room.call(9)
            assert again.done()

    assert with_places(5, act) == [0, 1, 2, 3, 4]


def test_what_was_announced_between_the_look_and_the_place_is_not_missed() -> None:
    async def story() -> bool:
        room = WaitingRoom()
        before_the_look = room.announced()
        room.announce()
        with room.place(before_the_look) as place:
            room.call(1)
            return place.done()

    assert asyncio.run(story())


def test_whoever_gave_up_is_not_called_in_anothers_stead() -> None:
    async def story() -> bool:
        room = WaitingRoom()
        with room.place(0), room.place(0) as second:
            pass
        with room.place(0) as third:
            room.announce()
            room.call(1)
            return third.done() and not second.done()

    assert asyncio.run(story())


def test_a_room_that_closes_lets_everybody_go_and_nobody_wait_again() -> None:
    def act(room: WaitingRoom, places: Places) -> None:
        room.close()
        with room.place(room.announced()) as late:
            assert late.done()

    assert with_places(100, act) == list(range(100))
