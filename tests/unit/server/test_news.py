"""Waiting requests hear of every commit, from whatever thread, and nobody waits when the server stops."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from fed_compute.coordinator.settings import load_settings
from fed_compute.coordinator.task_assigner import Assignment
from fed_compute.coordinator.wiring import Coordinator, open_coordinator
from fed_compute.ids import ClientId
from fed_compute.protocol.job import parse_job_text
from fed_compute.server.news import FEWEST_CALLED, News

LONG = 20.0


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Coordinator]:
    coordinator = open_coordinator(load_settings(data_dir=tmp_path))
    yield coordinator
    coordinator.close()


@contextmanager
def waiting(news: News, count: int) -> Iterator[list[asyncio.Future[None]]]:
    """Hold places of clients that just looked in vain."""
    room = news.waiting_room
    with ExitStack() as stack:
        yield [stack.enter_context(room.place(room.announced())) for _ in range(count)]


def num_done(places: list[asyncio.Future[None]]) -> int:
    return sum(place.done() for place in places)


def test_a_commit_on_another_thread_wakes_those_it_concerns(coordinator: Coordinator) -> None:
    async def story() -> tuple[int, int]:
        news = News(coordinator)
        async with news.running():
            with waiting(news, 1) as (place,):
                anything = news.anything()
                threading.Thread(target=coordinator.auth.register, args=("client-1",)).start()
                await news.wait(anything, seconds=LONG)
                registered = num_done([place])
                threading.Thread(target=coordinator.jobs.create, args=(parse_job_text(""),)).start()
                await asyncio.wait([place], timeout=LONG)
                return registered, num_done([place])

    assert asyncio.run(story()) == (0, 1)


def test_hundreds_who_wait_are_not_called_for_one_piece_of_work(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One slot becomes free: a few are called for it, and once it is taken nobody else is."""
    for seconds in ("CALL_SECONDS", "ANNOUNCE_SECONDS"):
        monkeypatch.setattr(f"fed_compute.server.news.{seconds}", 1e6)
    coordinator.jobs.create(parse_job_text("[rounds]\ntarget_updates = 1\nmin_updates = 1\nover_selection = 1"))
    for name in ("busy", "next"):
        coordinator.auth.register(name)
    lease = coordinator.tasks.next_task(ClientId("busy"))
    assert isinstance(lease, Assignment)

    async def commit(news: News, act: Callable[[], object]) -> None:
        anything = news.anything()
        await asyncio.to_thread(act)
        await news.wait(anything, seconds=LONG)
        await asyncio.sleep(0)

    async def story() -> list[int]:
        news, counts = News(coordinator), list[int]()
        async with news.running():
            with waiting(news, 500) as places:
                await commit(news, lambda: coordinator.auth.register("client-1"))
                counts.append(num_done(places))
                release = partial(coordinator.tasks.release, ClientId("busy"), lease.task.task_id)
                await asyncio.to_thread(release)
                await asyncio.wait(places, timeout=LONG, return_when=asyncio.FIRST_COMPLETED)
                counts.append(num_done(places))
                await commit(news, lambda: coordinator.tasks.next_task(ClientId("next")))
                await commit(news, lambda: coordinator.auth.register("client-2"))
                counts.append(num_done(places))
        return counts

    assert asyncio.run(story()) == [0, FEWEST_CALLED, FEWEST_CALLED]


def test_a_server_that_stops_lets_everybody_go_and_nobody_wait_again(coordinator: Coordinator) -> None:
    async def story() -> bool:
        news = News(coordinator)
        async with news.running():
            watching = [asyncio.create_task(news.wait(news.anything(), seconds=LONG)) for _ in range(100)]
            await asyncio.sleep(0)
            with waiting(news, 100) as places:
                news.close()
                await asyncio.gather(*watching, *places)
            await news.wait(news.anything(), seconds=LONG)
        coordinator.auth.register("after-the-end")  # a commit with nobody listening is no error
        return news.closing

    assert asyncio.run(asyncio.wait_for(story(), LONG / 2))
