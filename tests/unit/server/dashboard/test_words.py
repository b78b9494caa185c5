"""How pages write numbers and codes."""

import pytest

from fed_compute.server.dashboard.meanings import meaning
from fed_compute.server.dashboard.refusals import ways_out
from fed_compute.server.dashboard.render import duration, percent, place, size, ticked
from fed_compute.server.dashboard.visitors import own_page


@pytest.mark.parametrize(
    ("num_bytes", "words"),
    [
        (None, "–"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (1_034_567, "0.99 MiB"),
        (50 * 2**20, "50.0 MiB"),
        (2**50, "1,024 TiB"),
    ],
)
def test_sizes_are_written_in_the_unit_that_suits_them(num_bytes: float | None, words: str) -> None:
    assert size(num_bytes) == words


def test_times_are_short() -> None:
    assert [duration(s) for s in (None, 0.04, 59.9, 61, 3_700)] == ["–", "0.0 s", "59.9 s", "1 min 1 s", "1 h 1 min"]
    assert [ticked(s) for s in (0.0, 0.5, 20, 120, 7_200, 86_400)] == ["0 s", "0.5 s", "20 s", "2 min", "2 h", "1 d"]


def test_shares_are_places_in_a_drawing_of_any_width() -> None:
    assert [place(share) for share in (0.0, 0.25, 1.0)] == ["0.00%", "25.00%", "100.00%"]
    assert percent(None) == "–"


def test_a_code_is_explained_in_a_sentence() -> None:
    assert meaning("update_not_finite") == "The update holds NaN or an infinity."
    assert meaning("no_such_code") == ""


def test_a_page_that_is_not_there_leads_to_where_things_are() -> None:
    assert ways_out("/ui/rounds/99", needs_login=False)[0][1] == "/ui/jobs"
    assert ways_out("/ui/new-job", needs_login=True)[0] == ("Log in", "/ui/login?next=/ui/new-job")
    assert ways_out("/ui/what", needs_login=False) == (("Overview", "/"),)


@pytest.mark.parametrize(
    "path", ["//elsewhere.example", "https://elsewhere.example/ui/", "/ui/x?y=1", "\\\\x", "/ui/a\nb", ""]
)
def test_nobody_is_led_elsewhere_after_logging_in(path: str) -> None:
    assert own_page(path) == "/"
    assert own_page("/ui/jobs/default") == "/ui/jobs/default"
