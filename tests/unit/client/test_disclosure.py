"""How much an update tells beside its values."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.client.disclosure import Disclosure, Share, significant, tell_machine
from fed_compute.protocol.messages import MAX_NUM_SAMPLES, Capabilities

COUNTS = st.integers(1, 10**12)
MACHINE = Capabilities(cpu_count=64, memory_bytes=2**38, cuda=True, client_version="1.2")


@pytest.mark.parametrize(
    ("share", "count", "told"),
    [("exact", 80, 80), ("rounded", 80, 64), ("rounded", 64, 64), ("rounded", 1, 1), ("hidden", 80, 1)],
)
def test_the_number_of_samples_is_told_as_its_owner_wants(share: Share, count: int, told: int) -> None:
    assert Disclosure(sample_count=share).tell_samples(count) == told


@given(COUNTS, st.sampled_from(["exact", "rounded", "hidden"]), st.integers(1, MAX_NUM_SAMPLES))
def test_every_number_that_is_told_is_one_that_a_coordinator_takes(count: int, share: Share, cap: int) -> None:
    told = Disclosure(sample_count=share, max_sample_count=cap).tell_samples(count)
    assert 1 <= told <= min(cap, count, MAX_NUM_SAMPLES)


@given(COUNTS.filter(lambda count: count <= MAX_NUM_SAMPLES))
def test_a_rounded_number_is_never_less_than_half(count: int) -> None:
    """So that rounding costs at most half of an update's weight."""
    assert count / 2 < Disclosure(sample_count="rounded").tell_samples(count) <= count


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_rounding_a_loss_keeps_it_finite_and_within_half_a_percent(loss: float) -> None:
    rounded = significant(loss)
    assert math.isfinite(rounded)
    assert rounded == pytest.approx(loss, rel=0.005, abs=1e-320)
    assert significant(rounded) == rounded


def test_by_default_a_loss_is_rounded_and_the_time_is_nobody_s_business() -> None:
    told = Disclosure()
    assert told.tell_loss(2.302585) == 2.3
    assert told.tell_accuracy(2 / 3) == 0.667
    assert told.tell_accuracy(None) is None
    assert told.tell_seconds(3.7) is None


def test_exact_and_hidden_mean_what_they_say() -> None:
    exact, hidden = Disclosure(loss="exact", seconds="exact"), Disclosure(loss="hidden")
    assert (exact.tell_loss(2.302585), exact.tell_accuracy(2 / 3), exact.tell_seconds(3.7)) == (2.302585, 2 / 3, 3.7)
    assert hidden.tell_loss(2.302585) is None
    assert Disclosure(seconds="rounded").tell_seconds(3.7) == 4.0


LOSSES = st.floats(1e-6, 1e6)


@given(LOSSES, st.floats(-0.999, 1e4))
def test_a_change_of_a_loss_is_told_as_a_share_to_three_digits(before: float, share: float) -> None:
    """An audit judges by the share: two losses rounded one by one would hide any change below half a percent."""
    after = before * (1 + share)
    told = Disclosure().tell_change(before, after)
    assert told is not None
    assert told[0] == significant(before)
    assert told[1] is not None
    assert told[1] / told[0] - 1 == pytest.approx((after - before) / before, rel=0.006, abs=1e-12)


def test_a_change_of_nothing_is_told_as_nothing_and_one_without_end_as_that() -> None:
    rounded = Disclosure()
    assert rounded.tell_change(2.302585, 2.302585) == (2.3, 2.3)
    assert rounded.tell_change(2.302585, None) == (2.3, None)
    assert rounded.tell_change(0.0, 1.2345) == (0.0, 1.23)
    assert rounded.tell_change(1e-300, 1e300) == (1e-300, 1e300)
    assert Disclosure(loss="exact").tell_change(2.302585, 2.3) == (2.302585, 2.3)
    assert Disclosure(loss="hidden").tell_change(2.302585, 2.3) is None


@given(st.floats(0, 1e308), st.none() | st.floats(0, 1e308))
def test_whatever_the_losses_are_what_is_told_of_them_is_finite(before: float, after: float | None) -> None:
    told = Disclosure().tell_change(before, after)
    assert told is not None
    assert math.isfinite(told[0])
    assert told[1] is None if after is None else told[1] is not None and math.isfinite(told[1])


def test_a_registration_tells_of_the_machine_what_its_owner_wants() -> None:
    assert tell_machine(MACHINE, "none") is None
    version_only = tell_machine(MACHINE, "version")
    assert version_only is not None
    assert version_only.model_dump(exclude_unset=True) == {"client_version": "1.2"}
    assert tell_machine(MACHINE, "all") == MACHINE
