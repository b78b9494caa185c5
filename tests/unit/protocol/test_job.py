"""The job file: everything is checked before anything starts."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.errors import JobFileInvalid
from fed_compute.protocol.job import JobSpec, load_job, parse_job, parse_job_text

FULL = """
name = "digits"
[model]
name = "simple_mlp"
args = { input_dim = 64, hidden_dim = 32, output_dim = 10 }
[training]
loss = "cross_entropy"
optimizer = "sgd"
lr = 0.1
batch_size = 32
local_epochs = 1
[rounds]
total = 20
target_updates = 10
min_updates = 2
over_selection = "auto"
deadline_seconds = 300
mode = "sync"
[aggregation]
rule = "fedavg"
server_optimizer = "sgd"
[privacy]
mode = "open"
[wire]
encoding = "f32"
"""


def test_the_documented_job_file_is_read() -> None:
    job = parse_job_text(FULL)
    assert (job.name, job.training.lr, job.rounds.deadline_seconds) == ("digits", 0.1, 300.0)
    assert job.schema_of_model().num_parameters == 64 * 32 + 32 + 32 * 32 + 32 + 32 * 10 + 10


def test_an_empty_file_is_the_default_job() -> None:
    assert parse_job_text("") == JobSpec()
    assert JobSpec().name == "default"


@pytest.mark.parametrize("proximal_mu", [0.0, 0.25])
def test_a_job_survives_being_plain_data(proximal_mu: float) -> None:
    """This is how the store keeps it."""
    job = parse_job_text(FULL.replace("local_epochs = 1", f"local_epochs = 1\nproximal_mu = {proximal_mu}"))
    assert parse_job(job.model_dump(mode="json")) == job
    assert job.training.proximal_mu == proximal_mu


def test_a_proximal_term_is_written_only_where_there_is_one() -> None:
    """Clients from before it was there refuse unknown keys: they go on with jobs that do without, and with no other."""
    assert "proximal_mu" not in JobSpec().model_dump_json()
    assert '"proximal_mu":0.25' in parse_job({"training": {"proximal_mu": 0.25}}).model_dump_json()


@pytest.mark.parametrize(
    ("training", "fits"),
    [
        ({"lr": 0.1, "proximal_mu": 19.0}, True),
        ({"lr": 0.1, "proximal_mu": 20.0}, False),
        ({"lr": 0.1, "proximal_mu": 37.0, "momentum": 0.9}, True),
        ({"lr": 0.1, "proximal_mu": 39.0, "momentum": 0.9}, False),
        ({"lr": 0.1, "proximal_mu": 39.0, "optimizer": "adam"}, True),
    ],
)
def test_a_pull_that_would_throw_clients_away_from_the_global_model_is_refused(
    training: dict[str, Any], fits: bool
) -> None:
    """SGD on μ/2 · ‖w - w₀‖² alone converges below lr · μ = 2 · (1 + momentum) and diverges above."""
    with contextlib.nullcontext() if fits else pytest.raises(JobFileInvalid, match="overshoots"):
        parse_job({"training": training})


STEPS = {"training": {"report_steps": True}, "aggregation": {"rule": "fednova"}}


@pytest.mark.parametrize(
    ("training", "reason"),
    [
        ({}, "set training.report_steps to true"),
        ({"report_steps": False}, "set training.report_steps to true"),
        ({"report_steps": True, "optimizer": "adam"}, "not those of 'adam'"),
        ({"report_steps": True, "lr": 0.5, "proximal_mu": 2.1}, r"1\.05; fednova .* at most \(1 - √momentum\)² = 1$"),
        ({"report_steps": True, "lr": 0.5, "proximal_mu": 1.0, "momentum": 0.25}, "at most .* = 0.25"),
    ],
)
@pytest.mark.parametrize("aggregation", [{"rule": "fednova"}, {"rule": "norm_clipping", "pre": ["fednova"]}])
def test_fednova_is_refused_where_it_cannot_know_what_steps_add_up_to(
    training: dict[str, Any], reason: str, aggregation: dict[str, Any]
) -> None:
    rounds = {"target_updates": 5, "min_updates": 5}
    with pytest.raises(JobFileInvalid, match=reason):
        parse_job({"training": training, "aggregation": aggregation, "rounds": rounds})
    parse_job({"training": {"report_steps": True}, "aggregation": aggregation, "rounds": rounds})


def test_that_steps_are_wanted_is_written_only_where_they_are() -> None:
    """Clients from before they were there go on with the jobs that do without."""
    assert "report_steps" not in JobSpec().model_dump_json()
    read = parse_job(STEPS)
    assert '"report_steps":true' in read.model_dump_json()
    assert JobSpec.model_validate_json(read.model_dump_json()) == read


CONTROLS = {"report_steps": True, "control_variates": 0.9}


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"training": {"control_variates": 0.9}}, r"needs training\.report_steps = true, or set it to 0"),
        ({"training": {**CONTROLS, "optimizer": "adam"}}, "needs training.optimizer = 'sgd'"),
        ({"training": {**CONTROLS, "momentum": 0.5}}, "needs training.momentum = 0"),
        ({"training": {**CONTROLS, "proximal_mu": 0.5}}, "needs training.proximal_mu = 0"),
        ({"training": CONTROLS, "rounds": {"mode": "fedbuff"}}, "needs rounds.mode = 'sync'"),
        ({"training": {**CONTROLS, "control_variates": 1.1}}, "less than or equal to 1"),
        ({"aggregation": {"control_fraction": 0.5}}, "no use without training.control_variates"),
    ],
)
def test_control_variates_are_refused_where_they_cannot_be_told_from_updates(
    sections: dict[str, Any], reason: str
) -> None:
    with pytest.raises(JobFileInvalid, match=reason):
        parse_job(sections)


def test_control_variates_are_written_only_where_there_are_some() -> None:
    assert "control" not in JobSpec().model_dump_json()
    read = parse_job({"training": CONTROLS, "aggregation": {"control_fraction": 0.5}})
    assert '"control_variates":0.9' in read.model_dump_json()
    assert JobSpec.model_validate_json(read.model_dump_json()) == read
    assert (read.counts_steps, JobSpec().counts_steps) == (True, False)


@pytest.mark.parametrize(("samples", "steps"), [(1, 2), (16, 2), (17, 4), (160, 20)])
def test_the_steps_of_a_training_follow_from_its_samples(samples: int, steps: int) -> None:
    training = parse_job({"training": {"batch_size": 16, "local_epochs": 2}}).training
    assert training.num_steps(samples) == steps


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"trainin": {}}, r"unknown key 'trainin', did you mean 'training'\?"),
        ({"training": {"learning_rat": 1}}, "unknown key 'training.learning_rat'"),
        ({"training": {"batchsize": 1}}, r"did you mean 'training.batch_size'\?"),
        ({"rounds": {"lr": 1.0}}, r"did you mean 'training.lr'\?"),
        ({"lr": 1.0}, r"did you mean 'training.lr'\?"),
        ({"privacy": {"max_norm": 1.0}}, r"did you mean 'privacy.max_update_norm'\?"),
        ({"wire": {"zzz": 1}}, "known here: compression, encoding, topk_fraction"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(data: dict[str, Any], reason: str) -> None:
    with pytest.raises(JobFileInvalid, match=reason):
        parse_job(data)


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"rounds": {"total": 0}}, "rounds.total"),
        ({"rounds": {"total": "5"}}, "rounds.total"),
        ({"rounds": {"total": True}}, "rounds.total"),
        ({"rounds": {"total": 5.0}}, "rounds.total"),
        ({"rounds": {"deadline_seconds": 0}}, "rounds.deadline_seconds"),
        ({"rounds": {"min_updates": 3, "target_updates": 2}}, "rounds"),
        ({"rounds": {"mode": "fast"}}, "rounds.mode"),
        ({"rounds": {"concurrency": 5}}, "rounds"),
        ({"rounds": {"mode": "async", "max_staleness": 5}}, "rounds"),
        ({"rounds": {"mode": "fedbuff", "over_selection": 1.5}}, "rounds"),
        ({"rounds": {"mode": "fedbuff", "concurrency": 0}}, "rounds.concurrency"),
        ({"rounds": {"mode": "fedbuff", "max_staleness": -1}}, "rounds.max_staleness"),
        ({"training": {"lr": "0.1"}}, "training.lr"),
        ({"training": {"lr": True}}, "training.lr"),
        ({"training": {"lr": 0}}, "training.lr"),
        ({"training": {"lr": float("nan")}}, "training.lr"),
        ({"training": {"lr": float("inf")}}, "training.lr"),
        ({"training": {"momentum": 1.0}}, "training.momentum"),
        ({"training": {"loss": "l1"}}, "training.loss"),
        ({"aggregation": {"rule": "kurm"}}, "aggregation.rule"),
        ({"privacy": {"mode": "private"}}, "privacy.mode"),
        ({"wire": {"topk_fraction": 0.0}}, "wire.topk_fraction"),
        ({"wire": {"topk_fraction": float("nan")}}, "wire.topk_fraction"),
        ({"evaluation": {"holdout_fraction": 1.0}}, "evaluation.holdout_fraction"),
        ({"seed": -1}, "seed"),
        ({"name": "Digits"}, "name"),
        ({"name": "../x"}, "name"),
        ({"name": 5}, "name"),
        ({"model": "linear"}, "model"),
        ({"model": {"name": "linear", "args": {"input_dim": 0}}}, "model.args.input_dim"),
    ],
    ids=str,
)
def test_a_value_that_cannot_be_names_its_key(data: dict[str, Any], key: str) -> None:
    with pytest.raises(JobFileInvalid, match=key) as caught:
        parse_job(data)
    assert str(caught.value.details.get("key", "")).startswith(key)


def test_a_whole_number_will_do_where_a_fraction_may_stand() -> None:
    assert parse_job_text("[training]\nlr = 1\n[rounds]\nover_selection = 2").training.lr == 1.0


def test_only_buffers_know_stale_updates() -> None:
    with pytest.raises(JobFileInvalid, match=r"damp_stale has no use in rounds.mode 'sync'.*'fedbuff'"):
        parse_job({"aggregation": {"damp_stale": True}})
    job = parse_job({"aggregation": {"damp_stale": True}, "rounds": {"mode": "fedbuff", "max_staleness": 0}})
    assert (job.rounds.concurrency, job.rounds.max_staleness) == (None, 0)


def test_a_plug_in_model_s_arguments_are_left_to_the_plug_in() -> None:
    assert parse_job({"model": {"name": "my_model", "args": {"depth": 3}}}).model.args == {"depth": 3}
    with pytest.raises(JobFileInvalid, match="not built in"):
        parse_job({"model": {"name": "my_model"}}).schema_of_model()


def test_a_file_that_is_not_toml_or_not_there_is_named(tmp_path: Path) -> None:
    broken, binary = tmp_path / "broken.toml", tmp_path / "binary.toml"
    broken.write_text("[rounds")
    binary.write_bytes(b"\xff\xfe")
    for path in (broken, binary, tmp_path / "missing.toml", tmp_path):
        with pytest.raises(JobFileInvalid, match=path.name):
            load_job(path)


def test_a_wrong_value_in_a_file_names_file_and_key(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text("[rounds]\ntotal = 0")
    with pytest.raises(JobFileInvalid, match=r"job\.toml.*rounds\.total"):
        load_job(path)
    path.write_text(FULL)
    assert load_job(path).name == "digits"


@given(st.text())
def test_any_text_is_a_job_or_refused_and_nothing_worse(text: str) -> None:
    with contextlib.suppress(JobFileInvalid):
        assert isinstance(parse_job_text(text), JobSpec)


@pytest.mark.parametrize(
    "text",
    [
        "seed = " + "9" * 5000,
        "seed = 0x" + "f" * 5000,
        "[model]\nname = 'linear'\nargs = { input_dim = 0x" + "f" * 5000 + " }",
        "a = " + "[" * 100_000,
    ],
    ids=["digits", "hexadecimal digits", "digits for the model", "brackets"],
)
def test_absurdly_long_values_are_refused_and_nothing_worse(text: str) -> None:
    with pytest.raises(JobFileInvalid):
        parse_job_text(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*JobSpec.model_fields, "x"]), JSON, max_size=3))
def test_any_data_is_a_job_or_refused_and_nothing_worse(data: dict[str, Any]) -> None:
    with contextlib.suppress(JobFileInvalid):
        assert isinstance(parse_job(data), JobSpec)
