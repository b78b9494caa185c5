"""A training that is killed goes on where it was, to the same bits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fed_compute.client.checkpoints import Checkpoint, Checkpointer
from fed_compute.client.models.vectors import to_vector
from fed_compute.client.recipes import schema_of
from fed_compute.client.trainer import TrainingResult, set_threads, train
from fed_compute.clock import ManualClock
from fed_compute.protocol.messages import Recipe
from fed_compute.protocol.schema import Parameter, ParameterSchema, Vector
from tests.unit.client.recipes import blobs, recipe_for, start_of
from tests.unit.client.volunteer import Watcher

EPOCHS, BATCHES = 2, 4
DATA = blobs(BATCHES * 10 - 3)
OPTIMIZERS: list[dict[str, Any]] = [
    {"optimizer": "sgd"},
    {"optimizer": "sgd", "momentum": 0.9, "max_grad_norm": 0.5},
    {"optimizer": "sgd", "proximal_mu": 2.0},
    {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.01},
    {"optimizer": "adamw", "lr": 0.01},
]


class KilledError(BaseException):
    """The process ends here and nothing of it is tidied up."""


class Moody(nn.Module):
    """Has what the built-in models have not: dropout, a counter, and a parameter that only sometimes has a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Linear(64, 10)
        self.norm = nn.BatchNorm1d(64)
        self.extra = nn.Parameter(torch.zeros(10))
        self.dropout = nn.Dropout(0.5)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.output(self.dropout(self.norm(inputs)))
        return outputs + self.extra if torch.rand(()) < 0.3 else outputs


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    set_threads(1)


@pytest.fixture
def moody(monkeypatch: pytest.MonkeyPatch) -> tuple[Recipe, Vector]:
    """A plug-in's recipe, and the vector that it begins with."""

    torch.manual_seed(1)
    module = Moody()
    tensors = {name: tensor for name, tensor in module.state_dict().items() if tensor.is_floating_point()}
    schema = ParameterSchema(tuple(Parameter(name, tuple(tensor.shape)) for name, tensor in tensors.items()))
    monkeypatch.setattr("fed_compute.client.trainer.build_model", lambda recipe: Moody())
    recipe = recipe_for("moody", {}, schema=schema, training=training(optimizer="sgd", momentum=0.9))
    return recipe, to_vector(module, schema_of(recipe))


def training(**changes: Any) -> dict[str, Any]:
    return {"local_epochs": EPOCHS, "batch_size": 10, **changes}


def kept(
    recipe: Recipe,
    vector: Vector,
    folder: Path,
    *,
    kill_after: int | None = None,
    plan: str = "a plan",
    watcher: Watcher | None = None,
) -> tuple[TrainingResult, int]:
    """Train with a checkpoint after each batch, or be killed after so many; return how many batches it took now."""
    clock, batches = ManualClock(), list[float]()

    def progress(fraction: float) -> None:
        clock.advance(10)
        batches.append(fraction)
        if kill_after is not None and round(fraction * EPOCHS * BATCHES) == kill_after:
            raise KilledError

    checkpointer = Checkpointer(folder / "training", plan=plan, clock=clock, observer=watcher or Watcher())
    result = train(recipe, vector, DATA, checkpointer=checkpointer, progress=progress, clock=clock)
    return result, len(batches)


def killed(recipe: Recipe, vector: Vector, folder: Path, *, steps: int) -> None:
    """Train until so many batches are done."""
    with pytest.raises(KilledError):
        kept(recipe, vector, folder, kill_after=steps)


def interrupted(recipe: Recipe, vector: Vector, folder: Path, *, steps: int) -> TrainingResult:
    """Train, kill it after so many batches, and let it go on."""
    killed(recipe, vector, folder, steps=steps)
    result, batches = kept(recipe, vector, folder)
    assert batches == EPOCHS * BATCHES - steps, "what was done is not done again"
    return result


def same_bits_after_a_kill_anywhere(recipe: Recipe, vector: Vector, folder: Path) -> None:
    whole = train(recipe, vector, DATA)
    for steps in range(1, EPOCHS * BATCHES):
        own = folder / str(steps)
        own.mkdir()
        parts = interrupted(recipe, vector, own, steps=steps)
        assert (parts.delta.tobytes(), parts.loss) == (whole.delta.tobytes(), whole.loss), f"killed after {steps}"


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda one: "-".join(map(str, one.values())))
def test_a_killed_training_ends_with_the_bits_of_one_that_was_not_killed(
    tmp_path: Path, optimizer: dict[str, Any]
) -> None:
    recipe = recipe_for(training=training(**optimizer))
    same_bits_after_a_kill_anywhere(recipe, start_of(recipe), tmp_path)


def test_chance_and_counters_of_a_plug_in_model_go_on_too(tmp_path: Path, moody: tuple[Recipe, Vector]) -> None:
    same_bits_after_a_kill_anywhere(*moody, tmp_path)


def test_a_training_may_be_killed_again_and_again(tmp_path: Path) -> None:
    recipe = recipe_for(training=training(optimizer="adam", lr=0.01))
    vector = start_of(recipe)
    for steps in (1, 3, 4, 6):
        killed(recipe, vector, tmp_path, steps=steps)
    assert kept(recipe, vector, tmp_path)[0].delta.tobytes() == train(recipe, vector, DATA).delta.tobytes()


def test_the_time_before_the_kill_counts_too(tmp_path: Path) -> None:
    recipe = recipe_for(training=training())
    whole, _ = kept(recipe, start_of(recipe), tmp_path / "whole")
    assert whole.seconds == 10 * EPOCHS * BATCHES
    parts = interrupted(recipe, start_of(recipe), tmp_path, steps=3)
    assert parts.seconds == whole.seconds - 10, "the ten seconds after the last checkpoint are lost"


@pytest.mark.parametrize("plan", ["another plan", ""])
def test_a_checkpoint_of_another_plan_is_ignored(tmp_path: Path, plan: str) -> None:
    recipe = recipe_for(training=training())
    killed(recipe, start_of(recipe), tmp_path, steps=3)
    assert kept(recipe, start_of(recipe), tmp_path, plan=plan)[1] == EPOCHS * BATCHES


def test_a_checkpoint_that_does_not_fit_the_module_is_ignored(tmp_path: Path) -> None:
    """The plug-in was replaced by one of another shape while the client was away."""
    small, large = (
        recipe_for("simple_mlp", {"input_dim": 64, "hidden_dim": hidden, "output_dim": 10}, training=training())
        for hidden in (3, 4)
    )
    killed(small, start_of(small), tmp_path, steps=3)
    watcher = Watcher()
    result, batches = kept(large, start_of(large), tmp_path, watcher=watcher)
    assert result.delta.tobytes() == train(large, start_of(large), DATA).delta.tobytes()
    assert (batches, watcher.events) == (EPOCHS * BATCHES, [])


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: b"", lambda content: b"x" * 999,
                                    lambda content: content[:200] + b"?" + content[201:]])  # fmt: skip
def test_a_torn_checkpoint_is_told_and_the_training_begins_anew(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    recipe, watcher = recipe_for(training=training()), Watcher()
    killed(recipe, start_of(recipe), tmp_path, steps=3)
    file = tmp_path / "training"
    file.write_bytes(damage(file.read_bytes()))
    assert kept(recipe, start_of(recipe), tmp_path, watcher=watcher)[1] == EPOCHS * BATCHES
    assert watcher.names() == ["checkpoint_failed"]


def test_going_on_is_told(tmp_path: Path) -> None:
    recipe, watcher = recipe_for(training=training()), Watcher()
    killed(recipe, start_of(recipe), tmp_path, steps=3)
    kept(recipe, start_of(recipe), tmp_path, watcher=watcher)
    assert watcher.events == [("training_resumed", {"steps_done": 3, "seconds": 20.0})]


def test_a_disk_that_is_full_does_not_end_a_training(tmp_path: Path) -> None:
    recipe, watcher = recipe_for(training=training()), Watcher()
    result, _ = kept(recipe, start_of(recipe), tmp_path / "no such folder", watcher=watcher)
    assert result.delta.tobytes() == train(recipe, start_of(recipe), DATA).delta.tobytes()
    assert set(watcher.names()) == {"checkpoint_failed"}


def test_nothing_is_written_when_all_is_done(tmp_path: Path) -> None:
    """Most trainings are short; they must not pay for what nobody will read."""
    recipe = recipe_for(training=training(local_epochs=1, batch_size=100))
    kept(recipe, start_of(recipe), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_holds_the_live_tensors_of_the_cpu_and_no_copies(tmp_path: Path) -> None:
    recipe, held = recipe_for(training=training(optimizer="adam")), list[Checkpoint]()

    class Looking(Checkpointer):
        def offer(self, make: Callable[[], Checkpoint], *, epoch_ended: bool) -> None:
            held.append(make())

    train(recipe, start_of(recipe), DATA, checkpointer=Looking(tmp_path / "x", plan="", clock=ManualClock(),
                                                               observer=Watcher()))  # fmt: skip
    first, later = (bytes(one.tensors["module.layers.0.weight"].content) for one in held[:2])
    assert first == later, "both are views of the parameters as they are now"
