"""A path is taken only if it gives what the trainer gives; what cannot be trained together is trained one by one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fed_compute.errors import CohortUnsupported
from fed_compute.simulator.cohort import CohortEngine, Plan, TrainingPath, calibration
from tests.unit.simulator.cohort.jobs import (
    CNN,
    DIGITS,
    MLP,
    by_the_trainer,
    install_plugins,
    job_for,
    plugin_schema,
    shards_of,
    start_of,
)


@pytest.fixture(autouse=True)
def _models_and_haste(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_plugins(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(calibration, "_SECONDS_PER_PATH", 0.001)


def calibrated(name: str, plan: Plan | None = None) -> tuple[calibration.Calibration, float]:
    """Train a plug-in model; return its calibration, and how far the deltas are from the trainer's."""
    job, schema, shards = job_for({"name": name, "args": {}}), plugin_schema(name), shards_of((20, 10, 16))
    base = start_of(job, schema)
    with CohortEngine([DIGITS], processes=1, plan=plan) as engine:
        found = engine.train(base, shards, job, [1, 2, 3], schema=schema)
        assert engine.calibration is not None
        wanted = by_the_trainer(job, base, shards, [1, 2, 3], schema=schema)
        return engine.calibration, float(np.abs(found.deltas - np.stack([one.delta for one in wanted])).max())


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("buffers", {"vmap": "buffers (norm.running_mean)", "looped": "buffers (norm.running_mean)"}),
        ("chance", {"vmap": "random", "looped": "differ from the trainer's"}),
        ("branch", {"vmap": "data-dependent"}),
        ("crowd", {"vmap": "differ from the trainer's"}),
        ("affine", {}),
    ],
)
def test_a_path_that_cannot_train_a_model_is_left_out_and_the_reason_is_told(
    name: str, left_out: dict[str, str]
) -> None:
    """Chance in another order, samples that see each other, buffers that change: none may pass unseen."""
    found, away = calibrated(name)
    assert found.left_out.keys() == left_out.keys()
    for path, reason in left_out.items():
        assert reason in found.left_out[path]
        assert f"not {path}: " in str(found)
    assert found.plan.path not in left_out
    assert away <= 1e-5


@pytest.mark.parametrize("name", ["buffers", "chance"])
def test_what_no_path_can_train_together_the_trainer_trains_one_by_one(name: str) -> None:
    found, away = calibrated(name)
    assert found.plan == Plan(TrainingPath.SEQUENTIAL)
    assert away == 0


@pytest.mark.parametrize(("name", "plan"), [("chance", "looped"), ("branch", "vmap:2"), ("affine", "stacked:2")])
def test_a_given_path_that_cannot_train_the_model_is_refused(name: str, plan: str) -> None:
    with pytest.raises(CohortUnsupported, match=f"cannot train model '{name}'"):
        calibrated(name, Plan.parse(plan))


@pytest.mark.parametrize(("model", "paths"), [(MLP, {"sequential", "stacked"}), (CNN, {"sequential", "looped"})])
def test_built_in_models_have_a_path_of_their_own(model: dict[str, Any], paths: set[str]) -> None:
    job = job_for(model)
    with CohortEngine([DIGITS], processes=1) as engine:
        engine.train(start_of(job), shards_of((20, 9, 16)), job, [1, 2, 3])
        assert engine.calibration is not None
        assert {plan.split(":")[0] for plan in engine.calibration.clients_per_second} == paths
        assert str(engine.calibration.plan) in str(engine.calibration)


def test_a_plan_is_chosen_once_for_each_job() -> None:
    first, second = job_for(), job_for(lr=0.2)
    with CohortEngine([DIGITS], processes=1) as engine:
        seen = []
        for job in (first, second, first):
            engine.train(start_of(job), shards_of((8, 8)), job, [1, 2])
            seen.append(engine.calibration)
    assert seen[0] is seen[2]
    assert seen[0] is not seen[1]
