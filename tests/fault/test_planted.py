"""The planted bugs still fit the tree. That each turns a test red is shown by `make prove-faults`."""

import pytest

from tests.fault.planted.prove import PATCHES, ROOT, WATCHERS, apply, patch_of


def test_each_planted_bug_has_a_test_that_is_there_to_see_it() -> None:
    assert sorted(WATCHERS) == sorted(patch.stem for patch in PATCHES.glob("*.patch"))
    for test in WATCHERS.values():
        file, name = test.split("::")
        assert f"\ndef {name}(" in (ROOT / file).read_text()


@pytest.mark.parametrize("bug", WATCHERS)
def test_each_planted_bug_can_still_be_planted(bug: str) -> None:
    apply(patch_of(bug), ROOT, "--check")
