"""How many updates left today: counted through restarts, by several clients, and never guessed."""

import stat
import threading
from datetime import date
from pathlib import Path

import pytest

from fed_compute.client.history import DayBook
from fed_compute.client.policy import History
from fed_compute.errors import StateUnusable

MONDAY, TUESDAY = date(2026, 3, 2), date(2026, 3, 3)


def test_the_count_outlives_the_client_and_begins_anew_each_day(tmp_path: Path) -> None:
    assert DayBook(tmp_path / "sent").read() == History()
    for done in (1, 2):
        assert DayBook(tmp_path / "sent").spend(MONDAY, limit=None)
        assert DayBook(tmp_path / "sent").read() == History(MONDAY, done)
    assert DayBook(tmp_path / "sent").spend(TUESDAY, limit=1)
    assert DayBook(tmp_path / "sent").read() == History(TUESDAY, 1)


def test_at_the_limit_nothing_is_counted_any_more(tmp_path: Path) -> None:
    book = DayBook(tmp_path)
    assert [book.spend(MONDAY, limit=2) for _ in range(4)] == [True, True, False, False]
    assert book.read() == History(MONDAY, 2)


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    DayBook(tmp_path / "sent").spend(MONDAY, limit=None)
    assert stat.S_IMODE((tmp_path / "sent").stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "sent").iterdir()} == {0o600}


def test_clients_that_run_at_once_share_one_limit(tmp_path: Path) -> None:
    """Each has its own object, as each process has; more would leave than the owner allowed."""
    spent: list[bool] = []

    def work() -> None:
        book = DayBook(tmp_path)
        for _ in range(5):
            spent.append(book.spend(MONDAY, limit=12))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(spent) == [False] * 8 + [True] * 12
    assert DayBook(tmp_path).read() == History(MONDAY, 12)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "3", '{"day": "2026-03-02"}', '{"day": "no day", "updates": 1}',
     '{"day": "2026-03-02", "updates": "1"}', '{"day": "2026-03-02", "updates": -1}',
     '{"day": "2026-03-02", "updates": true}', '{"day": 3, "updates": 1}'],
)  # fmt: skip
def test_a_damaged_count_is_an_error_and_never_zero(tmp_path: Path, content: str) -> None:
    (tmp_path / "today.json").write_text(content)
    with pytest.raises(StateUnusable, match=r"not a count.*remove it"):
        DayBook(tmp_path).read()
    with pytest.raises(StateUnusable):
        DayBook(tmp_path).spend(MONDAY, limit=5)
    assert (tmp_path / "today.json").read_text() == content


def test_a_full_disk_leaves_the_old_count_and_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = DayBook(tmp_path)
    book.spend(MONDAY, limit=None)

    def full(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StateUnusable, match="no space left"):
        book.spend(MONDAY, limit=None)
    assert book.read() == History(MONDAY, 1)
    assert sorted(file.name for file in tmp_path.iterdir()) == [".lock", "today.json"]
