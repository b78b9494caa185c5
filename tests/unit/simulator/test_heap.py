"""The search for garbage passes over what was there before, and over nothing else."""

import gc
import weakref

from fed_compute.simulator.heap import settled_heap


class Ring:
    """Something that only the search for garbage can free."""

    def __init__(self) -> None:
        self.me = self


def test_only_what_was_there_before_is_passed_over_and_only_for_the_time() -> None:
    before = Ring()
    old = weakref.ref(before)
    with settled_heap():
        assert gc.get_freeze_count() > 0
        new = weakref.ref(Ring())
        del before
        gc.collect()
        assert new() is None
        assert old() is not None
    assert gc.get_freeze_count() == 0
    gc.collect()
    assert old() is None
