"""FedNova through the whole coordinator: what an update says of its steps is checked, counted and rebuilt."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.coordinator.recipes import schema_of, spec_of
from fed_compute.coordinator.task_assigner import Assignment
from fed_compute.errors import JobFileInvalid, StepCountInvalid
from fed_compute.learning.aggregation import accumulated_steps
from fed_compute.protocol.updates import decode_update, encode_update
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, tiny_job

TRAINING = {"batch_size": 10, "local_epochs": 2, "report_steps": True}


def open_job(open_stand: OpenStand, *, training: Mapping[str, Any] | None = None, **settings: Any) -> Stand:
    """Open a coordinator with a job of rounds of two that counts steps."""
    stand = open_stand(**settings)
    sections = {"training": {**TRAINING, **(training or {})}, "aggregation": {"rule": "fednova"}}
    stand.create(tiny_job(sections=sections, min_updates=2))
    stand.join("anna", "bob")
    return stand


def body(assignment: Assignment, values: list[float], *, samples: int, steps: int | None) -> bytes:
    """Return an update that says its steps, or does not."""
    return encode_update(
        np.array(values, dtype=np.float32),
        encoding="f32",
        compression="none",
        topk_fraction=1.0,
        schema_digest=schema_of(assignment.job).digest(),
        num_samples=samples,
        loss=None,
        train_seconds=None,
        num_steps=steps,
        rng=np.random.default_rng(0),
    )


def play_round(stand: Stand) -> list[float]:
    """Let Anna send 1 from 30 samples and 6 steps, Bob 0.5 from 10 and 2; return the way of the model."""
    before = stand.model(len(stand.versions()))
    for name, value, samples, steps in [("anna", 1.0, 30, 6), ("bob", 0.5, 10, 2)]:
        assignment = stand.lease(name)
        stand.send(name, assignment, body(assignment, [value, -value, value / 2], samples=samples, steps=steps))
    stand.work()
    after = stand.model(len(stand.versions()))
    return [b - a for a, b in zip(before, after, strict=True)]


def test_the_model_moves_by_the_normalised_mean_and_every_version_can_be_rebuilt(open_stand: OpenStand) -> None:
    """5 · (0.75 · 1/6 + 0.25 · 0.5/2), where 5 = 0.75 · 6 + 0.25 · 2."""
    stand = open_job(open_stand, database_url=None)
    assert play_round(stand) == pytest.approx([0.9375, -0.9375, 0.46875], rel=1e-5)
    stand.restart()
    assert play_round(stand) == pytest.approx([0.9375, -0.9375, 0.46875], rel=1e-5)
    assert len(stand.versions()) == 3
    assert stand.breaches() == ()


@pytest.mark.parametrize("training", [{"momentum": 0.9}, {"proximal_mu": 5.0}])
def test_the_job_s_momentum_and_pull_are_in_what_steps_add_up_to(
    open_stand: OpenStand, training: dict[str, float]
) -> None:
    stand = open_job(open_stand, training=training)
    momentum, pull = training.get("momentum", 0.0), 0.1 * training.get("proximal_mu", 0.0)
    six, two = (accumulated_steps(steps, momentum=momentum, pull=pull) for steps in (6, 2))
    wanted = (0.75 * six + 0.25 * two) * (0.75 * 1 / six + 0.25 * 0.5 / two)
    assert wanted != pytest.approx(0.9375, rel=1e-2)
    assert play_round(stand)[0] == pytest.approx(wanted, rel=1e-5)
    assert stand.breaches() == ()


@pytest.mark.parametrize(
    ("samples", "steps", "fits"),
    [(31, 8, True), (31, 7, False), (31, 1, False), (31, None, False), (1, 2_000_000, True), (1, 2_000_001, False)],
)
def test_a_number_of_steps_fits_the_claimed_samples_and_the_job(
    open_stand: OpenStand, samples: int, steps: int | None, fits: bool
) -> None:
    """Two epochs of 31 samples in batches of ten are eight steps, and nobody has more than ten million samples."""
    stand = open_job(open_stand)
    assignment = stand.lease("anna")
    sent = body(assignment, [1.0, 1.0, 1.0], samples=samples, steps=steps)
    if fits:
        assert not stand.send("anna", assignment, sent).repeated
        return
    with pytest.raises(StepCountInvalid, match="missing" if steps is None else f"num_steps is {steps}"):
        stand.send("anna", assignment, sent)
    assert stand.updates() == []


def test_an_update_in_json_says_its_steps_too(open_stand: OpenStand) -> None:
    stand = open_job(open_stand)
    stand.lease("anna")
    with pytest.raises(StepCountInvalid, match="missing"):
        stand.send_json("anna", 1, [[0.1, 0.2], [0.3]], num_samples=30)
    update = stand.send_json("anna", 1, [[0.1, 0.2], [0.3]], num_samples=30, num_steps=6).update
    job = stand.core.jobs.default()
    kept = decode_update(
        stand.core.blobs.get(update.digest),
        num_parameters=3,
        schema_digest=schema_of(job).digest(),
        encoding="f32",
        compression="none",
        topk_fraction=1.0,
    )
    assert (kept.num_samples, kept.num_steps) == (30, 6)


@given(st.floats(0, 0.99), st.floats(1e-6, 10), st.floats(0, 10), st.integers(1, 10**10))
def test_what_steps_add_up_to_is_known_for_every_job_that_is_accepted(
    momentum: float, lr: float, proximal_mu: float, num_steps: int
) -> None:
    """The job file is checked without the rules at hand; both must draw the line in the same place."""
    training = {**TRAINING, "momentum": momentum, "lr": lr, "proximal_mu": proximal_mu}
    try:
        tiny_job(sections={"training": training, "aggregation": {"rule": "fednova"}})
    except JobFileInvalid:
        with pytest.raises(ValueError, match="no number is known"):
            accumulated_steps(num_steps, momentum=momentum, pull=lr * proximal_mu)
    else:
        assert accumulated_steps(num_steps, momentum=momentum, pull=lr * proximal_mu) > 0


def test_a_job_that_counts_no_steps_takes_updates_with_and_without_them(stand: Stand) -> None:
    stand.create(tiny_job("plain"))
    stand.join("anna", "bob")
    for name, value, steps in [("anna", 0.1, None), ("bob", 0.2, 1)]:
        assignment = stand.lease(name, job="plain")
        assert not spec_of(assignment.job).aggregation.uses_steps
        stand.send(name, assignment, body(assignment, [value] * 3, samples=1_000, steps=steps))
    stand.work()
    assert stand.breaches() == ()
