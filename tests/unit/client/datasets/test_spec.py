"""Data specifications as text."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.client.datasets import DataSpec, parse_spec
from fed_compute.errors import DatasetInvalid

WORDS = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12)
PATHS = st.text("abcXYZ012/._- :,é", min_size=1, max_size=30).filter(lambda path: path == path.strip())
PARTS = st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n)))
SPECS = st.builds(
    DataSpec,
    source=WORDS,
    path=st.none() | PATHS,
    part=PARTS,
    split=st.sampled_from(["iid", "dirichlet", "sorted"]),
    alpha=st.floats(1e-3, 1e6),
    seed=st.integers(0, 10**18 - 1),
    options=st.dictionaries(st.sampled_from(["label", "size", "gray"]), WORDS, max_size=3),
)


@given(SPECS)
def test_what_a_specification_writes_is_read_back_unchanged(spec: DataSpec) -> None:
    """Logs and reports show the written form; it must be usable as it stands."""
    assert parse_spec(str(spec)) == spec


@given(st.text(max_size=60))
def test_any_text_is_a_specification_or_a_clear_refusal(text: str) -> None:
    with suppress(DatasetInvalid):
        spec = parse_spec(text)
        assert 1 <= spec.part[0] <= spec.part[1]
        assert parse_spec(str(spec)) == spec


def test_the_documented_example_reads_as_documented() -> None:
    spec = parse_spec("digits,part=2/5,split=dirichlet,alpha=0.3")
    assert spec == DataSpec("digits", part=(2, 5), split="dirichlet", alpha=0.3)


def test_a_comma_in_a_path_is_part_of_the_path() -> None:
    assert parse_spec("csv:/data/a,b.csv,label=price").path == "/data/a,b.csv"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "wanted SOURCE"),
        ("csv:", "wanted SOURCE"),
        ("digits,part=0/5", "part=0/5"),
        ("digits,part=6/5", "1 <= i <= n"),
        ("digits,part=2", "for example part=2/5"),
        ("digits,split=dirichlett", "did you mean 'dirichlet'"),
        ("digits,alpha=0", "0.001"),
        ("digits,alpha=nan", "0.001"),
        ("digits,alpha=much", "0.001"),
        ("digits,seed=-1", "whole number"),
        ("digits,seed=1,seed=2", "twice"),
    ],
)
def test_an_unusable_option_is_refused_with_what_was_wanted(text: str, says: str) -> None:
    with pytest.raises(DatasetInvalid, match=says):
        parse_spec(text)
