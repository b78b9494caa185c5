"""Where recipes differ, and only there."""

from fed_compute.coordinator.comparison import differences
from tests.unit.coordinator.stand import tiny_job


def test_only_keys_that_differ_are_listed_with_defaults_filled_in() -> None:
    plain = tiny_job("one")
    other = tiny_job("two", sections={"training": {"lr": 0.5}, "aggregation": {"server_optimizer": "adam"}})
    found = {row.key: row.values for row in differences([plain, other])}
    assert found == {"training.lr": (0.1, 0.5), "aggregation.server_optimizer": ("sgd", "adam")}


def test_a_key_that_only_one_job_has_is_a_difference() -> None:
    with_mu = tiny_job("two", sections={"training": {"proximal_mu": 0.1}})
    (row,) = differences([tiny_job("one"), with_mu, tiny_job("three")])
    assert (row.key, row.values) == ("training.proximal_mu", (None, 0.1, None))


def test_names_and_descriptions_alone_make_no_difference() -> None:
    assert differences([tiny_job("one"), tiny_job("two", sections={"description": "the same"})]) == []
    assert differences([]) == []
