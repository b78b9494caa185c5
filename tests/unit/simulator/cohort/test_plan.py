"""A plan is one word in a report and on a command line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.errors import CohortUnsupported
from fed_compute.simulator.cohort import Plan, TrainingPath
from fed_compute.simulator.cohort.plan import stack_size


@given(st.sampled_from([TrainingPath.STACKED, TrainingPath.VMAP]), st.integers(1, 10_000))
def test_a_plan_reads_back_what_it_writes(path: TrainingPath, at_once: int) -> None:
    assert Plan.parse(str(Plan(path, at_once))) == Plan(path, at_once)


@pytest.mark.parametrize(
    "text", ["stackd", "stacked:", "stacked:0", "stacked:-1", "stacked:ten", "looped:2", "sequential:1", ""]
)
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(CohortUnsupported):
        Plan.parse(text)


def test_an_unknown_path_is_told_the_known_ones() -> None:
    with pytest.raises(CohortUnsupported, match="stacked, vmap, looped, sequential"):
        Plan.parse("stackd:10")


def test_a_path_without_a_number_takes_as_many_clients_as_fit() -> None:
    assert str(Plan.parse("stacked").filled(10)) == "stacked:10"
    assert str(Plan.parse("stacked:3").filled(10)) == "stacked:3"
    assert str(Plan.parse("looped").filled(10)) == "looped"


@given(st.integers(1, 2**32))
def test_a_stack_is_as_large_as_the_cache_and_never_empty(num_parameters: int) -> None:
    """It follows from the model alone: what is measured may not move the rounding."""
    size = stack_size(num_parameters)
    assert 1 <= size <= 64
    assert size == 1 or 4 * num_parameters * (size - 1) <= 4 << 20


def test_ten_clients_of_a_hundred_thousand_parameters_share_a_stack() -> None:
    assert stack_size(109_386) == 10
