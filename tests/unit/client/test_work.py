"""From a task and a vector to the bytes that are sent."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fed_compute.client.datasets import Dataset
from fed_compute.client.disclosure import Disclosure, Share, significant
from fed_compute.client.memory import WorkMemory
from fed_compute.client.trainer import set_threads
from fed_compute.client.work import FinishedUpdate, OwnRules, Workbench
from fed_compute.clock import ManualClock
from fed_compute.errors import DatasetInvalid, PolicyRefusal, TrainingDiverged
from fed_compute.protocol.messages import SAFETENSORS, SAFETENSORS_ZSTD, Recipe
from fed_compute.protocol.schema import Vector
from fed_compute.protocol.updates import DecodedUpdate, decode_update
from tests.unit.client.parts import folder_in, memory_in
from tests.unit.client.recipes import blobs, recipe_for, start_of, task_for
from tests.unit.client.volunteer import Watcher

Bench = Callable[..., Workbench]

ENCODINGS = ["f32", "bf16", "f16", "int8", "topk"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    set_threads(1)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Make workbenches that know nothing of each other: `bench(data, **rules)`."""
    numbers = count()

    def make(data: Dataset | None = None, **rules: Any) -> Workbench:
        memory = memory_in(tmp_path / str(next(numbers)))
        return Workbench(data or blobs(100), ManualClock(), memory, rules=OwnRules(**rules))

    return make


def quiet(fraction: float) -> None:
    """Take no interest in progress."""


def made(workbench: Workbench, recipe: Recipe, progress: Callable[[float], None] = quiet) -> FinishedUpdate:
    return workbench.train(task_for(recipe), start_of(recipe), client_id="me", progress=progress)


def arrived(update: FinishedUpdate, recipe: Recipe) -> DecodedUpdate:
    """Decode an update as the coordinator does."""
    return decode_update(
        update.body,
        num_parameters=start_of(recipe).size,
        schema_digest=recipe.schema_digest,
        encoding=recipe.encoding,
        compression=recipe.compression,
        topk_fraction=recipe.topk_fraction,
    )


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_update_arrives_in_the_encoding_of_its_recipe(bench: Bench, encoding: str, compression: str) -> None:
    recipe = recipe_for(encoding=encoding, compression=compression)
    update = made(bench(), recipe)
    decoded = arrived(update, recipe)
    assert update.content_type == (SAFETENSORS_ZSTD if compression == "zstd" else SAFETENSORS)
    assert decoded.num_samples == update.result.num_samples == 80
    assert decoded.loss == update.says["loss"] == significant(update.result.loss)
    assert decoded.train_seconds is None
    if encoding == "f32":
        assert np.array_equal(decoded.delta, update.result.delta)
    else:
        assert np.linalg.norm(decoded.delta - update.result.delta) < 0.9 * np.linalg.norm(update.result.delta)


@pytest.mark.parametrize("encoding", ENCODINGS[1:])
def test_what_a_lossy_encoding_leaves_out_is_in_the_next_update(bench: Bench, encoding: str) -> None:
    """Over two rounds, sent + unsent must be what was trained, or small gradients are lost for ever."""
    recipe, workbench = recipe_for(encoding=encoding), bench()
    first = made(workbench, recipe)
    workbench.accepted(task_for(recipe), first.left)
    second = made(workbench, recipe)
    assert second.left.residual is not None
    total = arrived(first, recipe).delta + arrived(second, recipe).delta + second.left.residual.unsent
    np.testing.assert_allclose(total, first.result.delta + second.result.delta, atol=1e-5)


@pytest.mark.parametrize("encoding", ["int8", "topk"])
def test_an_update_that_was_not_accepted_leaves_no_residual(bench: Bench, encoding: str) -> None:
    """It was made for a model that is gone; half of it must not turn up later."""
    recipe, workbench = recipe_for(encoding=encoding), bench()
    assert made(workbench, recipe).body == made(workbench, recipe).body
    workbench.accepted(task_for(recipe, job="another-job"), made(workbench, recipe).left)
    assert made(workbench, recipe).body == made(bench(), recipe).body


CONTROLS = {"report_steps": True, "control_variates": 0.5, "batch_size": 10, "local_epochs": 2}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_control_variates_follow_from_what_was_sent_and_turn_the_next_training(bench: Bench, encoding: str) -> None:
    """Eighty samples in batches of ten, twice, are 16 steps; c = 0.1 everywhere."""
    recipe = recipe_for(training=CONTROLS, encoding=encoding, max_update_norm=0.5)
    plain = recipe_for(training={**CONTROLS, "control_variates": 0.0}, encoding=encoding, max_update_norm=0.5)
    workbench, vector = bench(), start_of(recipe)
    control = np.full_like(vector, 0.1)
    first = workbench.train(task_for(recipe), vector, client_id="me", progress=quiet)
    assert first.body == made(bench(), plain).body, "with both at zero nothing is turned"
    assert first.left.control is not None
    np.testing.assert_allclose(first.left.control, arrived(first, recipe).delta / -1.6, rtol=1e-5)

    again = workbench.train(task_for(recipe), vector, client_id="me", progress=quiet)
    assert again.body == first.body, "what was not accepted leaves nothing"
    workbench.accepted(task_for(recipe), first.left)
    second = workbench.train(task_for(recipe), vector, client_id="me", progress=quiet, control=control)
    assert second.body != first.body
    assert second.left.control is not None
    wanted = 0.5 * (first.left.control - control) - arrived(second, recipe).delta / 1.6
    np.testing.assert_allclose(second.left.control, wanted, rtol=1e-4, atol=1e-6)
    assert made(bench(), plain).left.control is None


def test_a_killed_training_goes_on_only_with_the_same_control_variates(tmp_path: Path) -> None:
    """At the same bits with the same, and from its start with others, be it the coordinator's or the client's own."""
    recipe = recipe_for(training=CONTROLS)
    vector = start_of(recipe)
    control = np.full_like(vector, 0.1)

    def train(folder: str, *, control: Vector | None, own: Vector | None = None, kill: bool = False) -> list[str]:
        watcher, clock = Watcher(), ManualClock()
        memory = WorkMemory(folder_in(tmp_path / folder), clock, watcher)
        if own is not None:
            memory.keep_own_control("default", own, schema_digest=recipe.schema_digest)

        def progress(fraction: float) -> None:
            clock.advance(10)
            if kill and fraction > 0.5:
                raise KeyboardInterrupt

        bench = Workbench(blobs(100), clock, memory)
        with pytest.raises(KeyboardInterrupt) if kill else nullcontext():
            bodies[folder] = bench.train(
                task_for(recipe), vector, client_id="me", progress=progress, control=control
            ).body
        return watcher.names()

    bodies: dict[str, bytes] = {}
    assert train("whole", control=control) == []
    train("same", control=control, kill=True)
    assert train("same", control=control) == ["training_resumed"]
    assert bodies["same"] == bodies["whole"]
    train("theirs", control=control, kill=True)
    assert train("theirs", control=2 * control) == []
    train("own", control=control, kill=True)
    assert train("own", control=control, own=control) == []
    assert bodies["own"] != bodies["whole"] != bodies["theirs"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(("limit", "own"), [(1e-3, None), (0.05, None), (1.0, 0.02), (0.05, 7.0)])
def test_what_arrives_keeps_the_maximum_norm_even_after_rounding(
    bench: Bench, encoding: str, limit: float, own: float | None
) -> None:
    """The coordinator refuses a longer update, however small the excess; the owner may set a smaller limit."""
    recipe, workbench = recipe_for(encoding=encoding, max_update_norm=limit), bench(max_update_norm=own)
    limit = limit if own is None else min(limit, own)
    for _ in range(3):
        update = made(workbench, recipe)
        assert math.sqrt(float(np.square(arrived(update, recipe).delta, dtype=np.float64).sum())) <= limit
        workbench.accepted(task_for(recipe), update.left)


def test_stochastic_rounding_differs_between_clients_and_not_between_runs(bench: Bench) -> None:
    """Equal errors at every client would add up instead of averaging out."""
    recipe = recipe_for(encoding="int8")
    vector = start_of(recipe)
    bodies = [bench().train(task_for(recipe), vector, client_id=name, progress=quiet).body for name in ("a", "a", "b")]
    assert bodies[0] == bodies[1]
    assert bodies[0] != bodies[2]


def test_evaluation_uses_only_samples_that_training_never_saw(bench: Bench) -> None:
    """Half of the data has the wrong labels: which half is judged shows whose samples they are."""
    recipe = recipe_for(holdout_fraction=0.5)
    workbench = bench()
    measured = workbench.evaluate(task_for(recipe, task="evaluate"), start_of(recipe))
    update = made(workbench, recipe)
    assert measured.num_samples + update.result.num_samples == 100
    marked = Dataset(np.arange(100, dtype=np.float32)[:, None], np.zeros(100, dtype=np.float32), "marks")
    args: dict[str, object] = {"input_dim": 1, "output_dim": 1}
    linear = recipe_for("linear", args, training={"loss": "mse", "lr": 1e-9}, holdout_fraction=0.5)
    identity = np.array([1.0, 0.0], dtype=np.float32)
    exact = Disclosure(loss="exact")
    held_out = bench(marked, disclosure=exact).evaluate(task_for(linear, task="evaluate"), identity)
    trained = bench(marked).train(
        task_for(recipe_for("linear", args, training={"loss": "mse", "lr": 1e-9, "batch_size": 50},
                            holdout_fraction=0.5)), identity, client_id="me", progress=quiet)  # fmt: skip
    everything = float(np.square(np.arange(100)).sum())
    assert held_out.loss * 50 + trained.result.loss * 50 == pytest.approx(everything, rel=1e-4)


def test_an_update_reports_the_norm_of_what_was_trained_and_of_what_is_sent(bench: Bench) -> None:
    norm = made(bench(max_update_norm=0.01), recipe_for()).norm
    assert norm.sent == pytest.approx(0.01, rel=1e-5)
    assert norm.trained > 0.01 == norm.limit
    free = made(bench(), recipe_for()).norm
    assert (free.sent, free.limit) == (free.trained, None)


def test_an_update_tells_no_more_than_its_owner_lets_out(bench: Bench) -> None:
    hidden = Disclosure(sample_count="hidden", loss="hidden", seconds="hidden")
    update = made(bench(disclosure=hidden), recipe_for())
    decoded = arrived(update, recipe_for())
    assert (decoded.num_samples, decoded.loss, decoded.train_seconds) == (1, None, None)
    assert update.says == {"num_samples": 1}
    shown = Disclosure(sample_count="rounded", loss="exact", seconds="exact", max_sample_count=50)
    decoded = arrived(made(bench(disclosure=shown), recipe_for()), recipe_for())
    assert (decoded.num_samples, decoded.train_seconds) == (50, 0.0)


@pytest.mark.parametrize(
    ("share", "max_samples", "samples", "steps"),
    [
        ("exact", 1_000, 80, 3 * 10),
        ("rounded", 1_000, 64, 3 * 8),
        ("exact", 50, 50, 3 * 10),
        ("rounded", 50, 50, 3 * 8),
    ],
)
def test_steps_are_told_where_the_job_asks_and_as_exactly_as_samples(
    bench: Bench, share: Share, max_samples: int, samples: int, steps: int
) -> None:
    """80 samples in batches of 8, three times. What the recipe lets an update weigh changes no steps."""
    training = {"batch_size": 8, "local_epochs": 3}
    asks = recipe_for(training={**training, "report_steps": True}, max_num_samples=max_samples)
    update = made(bench(disclosure=Disclosure(sample_count=share)), asks)
    decoded = arrived(update, asks)
    assert (decoded.num_samples, decoded.num_steps) == (samples, steps)
    assert update.says["num_steps"] == steps
    silent = made(bench(), recipe_for(training=training))
    assert arrived(silent, recipe_for(training=training)).num_steps is None
    assert "num_steps" not in silent.says


def test_what_is_told_beside_an_update_does_not_change_its_values(bench: Bench) -> None:
    deltas = [
        arrived(
            made(bench(disclosure=Disclosure(loss=share)), recipe_for(encoding="int8")), recipe_for(encoding="int8")
        )
        for share in ("exact", "hidden")
    ]
    assert np.array_equal(deltas[0].delta, deltas[1].delta)


def test_a_measurement_is_never_made_with_its_loss_hidden(bench: Bench) -> None:
    workbench = bench(disclosure=Disclosure(loss="hidden"))
    with pytest.raises(PolicyRefusal, match="CLIENT_SHARE_LOSS"):
        workbench.evaluate(task_for(recipe_for(), task="evaluate"), start_of(recipe_for()))


@pytest.mark.parametrize(("kind", "count"), [("train", 80), ("evaluate", 20)])
def test_the_samples_that_a_task_would_use_are_known_before_it_is_done(bench: Bench, kind: str, count: int) -> None:
    assert bench().count_samples(task_for(recipe_for(), task=kind)) == count


@pytest.mark.parametrize("fraction", [0.0, 1.0, -3.0, float("nan")])
def test_a_held_out_fraction_that_makes_no_sense_is_refused(bench: Bench, fraction: float) -> None:
    recipe = recipe_for().model_copy(update={"holdout_fraction": fraction})
    with pytest.raises(DatasetInvalid, match="held-out fraction"):
        made(bench(), recipe)


def test_an_update_claims_no_more_samples_than_the_recipe_allows(bench: Bench) -> None:
    recipe = recipe_for(max_num_samples=50)
    assert arrived(made(bench(), recipe), recipe).num_samples == 50


def test_a_loss_that_nobody_would_believe_is_kept_back(bench: Bench) -> None:
    """Targets that are not scaled make a mean squared error of millions; the update itself may be fine."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((50, 3), dtype=np.float32), np.full((50, 1), 1e5, dtype=np.float32)
    recipe = recipe_for("linear", {"input_dim": 3, "output_dim": 1}, training={"loss": "mse", "lr": 1e-9})
    workbench = bench(Dataset(x, y, "unscaled"))
    update = made(workbench, recipe)
    assert update.result.loss > 1e6
    assert arrived(update, recipe).loss is None
    with pytest.raises(TrainingDiverged, match=r"at most 1e[+]06 is taken"):
        workbench.evaluate(task_for(recipe, task="evaluate"), start_of(recipe))
