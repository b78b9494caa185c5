"""Reading the journal back in time, page by page, as far as somebody may see it."""

import pytest

from fed_compute.coordinator import journal_pages
from fed_compute.coordinator.journal_pages import Wanted, journal_page
from tests.unit.coordinator.stand import Stand, tiny_job


def every_page(stand: Stand, wanted: Wanted, *, limit: int, for_staff: bool = False) -> list[int]:
    """Return the numbers of all lines, going back page by page."""
    seen: list[int] = []
    while True:
        page = journal_page(stand.core.store, wanted, limit=limit, for_staff=for_staff)
        seen += [line.entry.seq for line in page.lines]
        if page.older is None:
            return seen
        wanted = Wanted(wanted.kind, wanted.client_id, wanted.job, page.older)


def play(stand: Stand) -> None:
    stand.create()
    stand.create(tiny_job("other"))
    stand.join("anna", "bob")
    for name in ("anna", "bob"):
        stand.report(name)
    stand.work()


def test_pages_together_are_the_whole_journal_newest_first(stand: Stand) -> None:
    play(stand)
    whole = [entry.seq for entry in reversed(stand.journal())]
    assert every_page(stand, Wanted(), limit=3, for_staff=True) == whole
    assert len(whole) > 10


def test_strangers_get_full_pages_without_what_is_about_keys(stand: Stand) -> None:
    play(stand)
    hidden = [entry.seq for entry in stand.journal("operator_key_issued")]
    assert hidden
    whole = [entry.seq for entry in reversed(stand.journal()) if entry.seq not in hidden]
    assert every_page(stand, Wanted(), limit=4) == whole
    assert len(journal_page(stand.core.store, Wanted(), limit=4, for_staff=False).lines) == 4


def test_a_kind_a_client_and_a_job_are_each_found_wherever_they_are(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search looks at so many entries a page and says where to go on, so that none is passed over."""
    play(stand)
    monkeypatch.setattr(journal_pages, "REACH", 2)
    for wanted, kinds in (
        (Wanted("job_created"), ["job_created"]),
        (Wanted(client_id="anna"), []),
        (Wanted(job="other"), []),
    ):
        expected = [
            entry.seq
            for entry in reversed(stand.journal(*kinds))
            if (wanted.client_id is None or entry.client_id == wanted.client_id)
            and (wanted.job is None or entry.job_id == 2)
        ]
        assert expected
        assert every_page(stand, wanted, limit=2, for_staff=True) == expected


def test_a_job_that_is_not_there_has_no_lines(stand: Stand) -> None:
    play(stand)
    page = journal_page(stand.core.store, Wanted(job="none"), limit=5, for_staff=True)
    assert (list(page.lines), page.older) == ([], None)


def test_an_empty_journal_is_one_empty_page(stand: Stand) -> None:
    page = journal_page(stand.core.store, Wanted(kind="never"), limit=5, for_staff=True)
    assert (list(page.lines), page.older) == ([], None)
