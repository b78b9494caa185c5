"""Waiting requests hear of every commit, from whatever thread, and nobody waits when the server stops."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fed_compute.coordinator.settings import load_settings
from fed_compute.coordinator.wiring import Coordinator, open_coordinator
from fed_compute.protocol.job import parse_job_text
from fed_compute.server.news import News

LONG = 20.0


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Coordinator]:
    coordinator = open_coordinator(load_settings(data_dir=tmp_path))
    yield coordinator
    coordinator.close()


def test_a_commit_on_another_thread_wakes_those_it_concerns(coordinator: Coordinator) -> None:
    async def story() -> tuple[bool, bool]:
        news = News(coordinator)
        async with news.running():
            await news.wait(news.work(), seconds=LONG)  # the first look wakes everybody
            anything, work = news.anything(), news.work()
            threading.Thread(target=coordinator.auth.register, args=("client-1",)).start()
            await news.wait(anything, seconds=LONG)
            registered = work.is_set()
            threading.Thread(target=coordinator.jobs.create, args=(parse_job_text(""),)).start()
            await news.wait(work, seconds=LONG)
            return registered, work.is_set()

    assert asyncio.run(story()) == (False, True)


def test_a_server_that_stops_lets_everybody_go_and_nobody_wait_again(coordinator: Coordinator) -> None:
    async def story() -> bool:
        news = News(coordinator)
        async with news.running():
            waiting = [asyncio.create_task(news.wait(news.anything(), seconds=LONG)) for _ in range(100)]
            await asyncio.sleep(0)
            news.close()
            await asyncio.gather(*waiting)
            await news.wait(news.work(), seconds=LONG)
        coordinator.auth.register("after-the-end")  # a commit with nobody listening is no error
        return news.closing

    assert asyncio.run(asyncio.wait_for(story(), LONG / 2))
