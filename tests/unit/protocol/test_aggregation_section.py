"""The aggregation section: a rule is refused up front where a round could not bear the liars it was chosen for."""

from typing import Any

import pytest

from fed_compute.errors import JobFileInvalid
from fed_compute.protocol.aggregation_section import AggregationSection
from fed_compute.protocol.job import JobSpec, parse_job, parse_job_text


def job(min_updates: int = 10, **aggregation: Any) -> JobSpec:
    """Read a job with an aggregation section."""
    rounds = {"min_updates": min_updates, "target_updates": max(10, min_updates)}
    return parse_job({"rounds": rounds, "aggregation": aggregation})


FULL = """
[rounds]
min_updates = 8
[aggregation]
rule = "trimmed_mean"
pre = ["norm_clipping", "bucketing", "nnm"]
f = 1
clip_norm = 5
bucket_size = 2
weighting = "capped"
newcomer_share = 0.1
"""


def test_the_documented_section_is_read() -> None:
    section = parse_job_text(FULL).aggregation
    assert (section.pre, section.f, section.clip_norm) == (("norm_clipping", "bucketing", "nnm"), 1, 5.0)
    assert (section.weights_by, section.newcomer_share) == ("capped", 0.1)


def test_a_section_survives_being_plain_data() -> None:
    read = parse_job_text(FULL)
    assert parse_job(read.model_dump(mode="json")) == read
    assert JobSpec.model_validate_json(read.model_dump_json()) == read


def test_samples_weigh_under_plain_averaging_and_nothing_weighs_more_under_a_robust_rule() -> None:
    """A claim is a stranger's word. Whoever wants it to count under a robust rule has to say so."""
    assert job().aggregation.weights_by == "samples"
    assert job(rule="robust").aggregation.weights_by == "equal"
    assert job(pre=["norm_clipping"]).aggregation.weights_by == "equal"
    assert AggregationSection(rule="fednova").weights_by == "samples"
    assert AggregationSection(rule="fednova", pre=("norm_clipping",)).weights_by == "equal"
    assert job(rule="robust", weighting="samples").aggregation.weights_by == "samples"


LEAST: list[tuple[dict[str, Any], int]] = [
    ({"rule": "fedavg"}, 1),
    ({"rule": "median"}, 3),
    ({"rule": "geometric_median"}, 3),
    ({"rule": "centered_clipping"}, 3),
    ({"rule": "norm_clipping"}, 3),
    ({"rule": "norm_clipping", "clip_norm": 1.0}, 1),
    ({"rule": "trimmed_mean"}, 5),
    ({"rule": "trimmed_mean", "f": 0.1}, 10),
    ({"rule": "trimmed_mean", "f": 3}, 7),
    ({"rule": "trimmed_mean", "f": 0}, 1),
    ({"rule": "krum", "f": 2}, 7),
    ({"rule": "krum", "f": 0.4}, 11),
    ({"rule": "multi_krum"}, 5),
    ({"rule": "robust"}, 5),
    ({"rule": "robust", "f": 1}, 5),
    ({"rule": "median", "pre": ["nnm"], "f": 0.25}, 4),
    ({"rule": "median", "pre": ["bucketing"]}, 5),
    ({"rule": "trimmed_mean", "pre": ["bucketing"], "f": 2}, 9),
    ({"rule": "fltrust", "trusted_client": "anna"}, 1),
]


@pytest.mark.parametrize(("section", "least"), LEAST, ids=str)
def test_a_rule_needs_rounds_in_which_it_bears_somebody(section: dict[str, Any], least: int) -> None:
    assert job(least, **section).aggregation.least_updates() == least
    if least > 1:
        told = f"in a round of fewer than {least} updates and rounds.min_updates is {least - 1}"
        with pytest.raises(JobFileInvalid, match=told):
            job(least - 1, **section)


def test_the_default_job_file_s_rounds_are_too_small_for_a_robust_rule_and_it_says_what_to_do() -> None:
    with pytest.raises(JobFileInvalid, match=r"rule 'robust' with f = 0\.2 protects nobody.*min_updates to 5 or more"):
        parse_job_text('[aggregation]\nrule = "robust"')


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        ({"rule": "kurm"}, "aggregation.rule"),
        ({"rule": "krum", "f": 0.5}, "aggregation.f"),
        ({"rule": "krum", "f": -1}, "aggregation.f"),
        ({"rule": "krum", "f": True}, "aggregation.f"),
        ({"rule": "krum", "f": "2"}, "aggregation.f"),
        ({"rule": "krum", "f": float("nan")}, "aggregation.f"),
        ({"rule": "krum", "f": 2_000}, "holds in no round of up to 1000 updates"),
        ({"rule": "median", "pre": ["bucketing", "nnm"], "f": 0.4}, "holds in no round"),
        ({"rule": "median", "pre": ["nnnm"]}, "aggregation.pre.0"),
        ({"rule": "median", "pre": "nnm"}, "aggregation.pre"),
        ({"rule": "median", "pre": ["nnm"] * 5}, "aggregation.pre"),
        ({"rule": "centered_clipping", "clip_radius": 0}, "aggregation.clip_radius"),
        ({"rule": "centered_clipping", "clip_iterations": 0}, "aggregation.clip_iterations"),
        ({"rule": "geometric_median", "median_smoothing": -1}, "aggregation.median_smoothing"),
        ({"rule": "median", "pre": ["bucketing"], "bucket_size": 1}, "aggregation.bucket_size"),
        ({"weighting": "sample"}, "aggregation.weighting"),
        ({"newcomer_share": 0}, "aggregation.newcomer_share"),
        ({"newcomer_share": 1.1}, "aggregation.newcomer_share"),
        ({"rule": "fltrust"}, "needs trusted_client"),
        ({"rule": "fltrust", "trusted_client": "../x"}, "not a client's name"),
        ({"rule": "fltrust", "trusted_client": "anna", "pre": ["bucketing"]}, "leave it out"),
        ({"pre": ["nnm"]}, "nnm in front of rule 'fedavg' bears no liar"),
        ({"rule": "norm_clipping", "pre": ["nnm"]}, "bears no liar"),
        ({"buckt_size": 3}, r"did you mean 'aggregation.bucket_size'\?"),
        ({"trim": 3}, "unknown key 'aggregation.trim'"),
        ({"wieghting": "equal"}, r"did you mean 'aggregation.weighting'\?"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_with_its_reason(section: dict[str, Any], reason: str) -> None:
    with pytest.raises(JobFileInvalid, match=reason):
        job(**section)


@pytest.mark.parametrize(
    ("section", "where"),
    [
        ({"f": 3}, "f has no use under rule 'fedavg'"),
        ({"rule": "median", "f": 3}, "f has no use under rule 'median'"),
        ({"clip_norm": 1.0}, "it belongs to norm_clipping"),
        ({"rule": "median", "clip_radius": 1.0}, "centered_clipping"),
        ({"rule": "median", "clip_iterations": 9}, "centered_clipping"),
        ({"rule": "median", "median_iterations": 9}, "geometric_median"),
        ({"rule": "median", "median_smoothing": 0.1}, "geometric_median"),
        ({"rule": "median", "bucket_size": 3}, "'bucketing' in pre"),
        ({"rule": "robust", "trusted_client": "anna"}, "fltrust"),
    ],
    ids=str,
)
def test_a_number_without_a_use_is_refused_so_that_nobody_relies_on_it(section: dict[str, Any], where: str) -> None:
    with pytest.raises(JobFileInvalid, match=where):
        job(**section)
