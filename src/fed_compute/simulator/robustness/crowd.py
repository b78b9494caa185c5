"""The clients of one trial: their data, and one round of training for all of them in all runs at once."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from fed_compute.client.datasets import Dataset, load_dataset, split_holdout
from fed_compute.client.datasets.partition import Rows
from fed_compute.client.models.built_in import BUILT_IN_MODULES
from fed_compute.protocol.architectures import built_in_schema
from fed_compute.protocol.schema import ParameterSchema
from fed_compute.simulator.attacks import Attack
from fed_compute.simulator.robustness.setting import Setting, Split
from fed_compute.simulator.stacked import Stack, StackedModel, Stacks

NUM_CLASSES = 10
HOLDOUT_FRACTION = 0.2
HOLDOUT_SEED = 0
"""The same held-out samples in every trial, whatever its seed."""


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """The digits: what the clients train on, cut into parts, and what nobody trains on.

    `root` is what the operator has to train on: a few samples drawn from all that the clients have, as in the paper
    of FLTrust. Other rules do not see it.
    """

    training: Dataset
    held_out: Dataset
    parts: list[Rows]
    root: Rows

    @classmethod
    def digits(cls, setting: Setting, split: Split, *, seed: int) -> "Samples":
        """Load the digits of scikit-learn and cut them."""
        training, held_out = split_holdout(load_dataset("digits"), HOLDOUT_FRACTION, HOLDOUT_SEED)
        root = np.random.default_rng([seed, 3]).choice(len(training.y), setting.root_samples, replace=False)
        return cls(training, held_out, setting.parts(training.y, split, seed=seed), root)

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """How many samples each client has, shape (n,)."""
        return np.array([len(part) for part in self.parts], dtype=np.int64)


def mlp(setting: Setting) -> tuple[StackedModel, ParameterSchema]:
    """Return `simple_mlp` with one hidden layer, for the digits."""
    arguments = {"input_dim": 64, "hidden": [setting.hidden_dim], "output_dim": NUM_CLASSES}
    schema = built_in_schema("simple_mlp", arguments)
    return StackedModel(BUILT_IN_MODULES["simple_mlp"](arguments), schema), schema


class Crowd:
    """Clients who train honestly, each on its own samples; the attackers on their own too, relabelled by the attack.

    The last is the operator's own client, on the root samples. Each keeps its momentum over the rounds, in each run
    by itself.
    Memory: runs · clients · parameters · 4 bytes, three times.
    """

    def __init__(self, setting: Setting, samples: Samples, attack: Attack, *, model: StackedModel, seed: int) -> None:
        self._setting = setting
        self._samples = samples
        self._model = model
        self._stream = np.random.default_rng([seed, 1])
        self._inputs = torch.from_numpy(samples.training.x)
        self._parts = [*samples.parts, samples.root]
        truth = np.array(samples.training.y, dtype=np.int64)
        self._classes = np.tile(truth, (len(self._parts), 1))  # as each client has them
        for attacker in setting.attackers:
            self._classes[attacker] = attack.relabel(truth, num_classes=NUM_CLASSES)
        self._momenta: Stacks | float = 0.0

    def train(self, vectors: Stack) -> Stacks:
        """Return what each client would honestly send, (R, n + 1, P), the operator's last, from `vectors`, (R, P)."""
        rows = np.stack([self._stream.choice(part, self._setting.batch_size) for part in self._parts])
        labels = np.take_along_axis(self._classes, rows, axis=1)
        classes = torch.from_numpy(np.broadcast_to(labels, (len(vectors), *rows.shape)).copy())
        gradients = self._model.gradients(vectors, self._inputs[torch.from_numpy(rows)], classes)
        kept = np.float32(self._setting.momentum)
        self._momenta = kept * self._momenta + (1 - kept) * gradients
        updates: Stacks = -np.float32(self._setting.lr) * self._momenta
        return updates

    def accuracies(self, vectors: Stack) -> npt.NDArray[np.float64]:
        """Return the percentage of held-out samples that each of `vectors`, shape (R, P), classifies rightly."""
        held_out = self._samples.held_out
        return self._model.accuracies(vectors, torch.from_numpy(held_out.x), torch.from_numpy(held_out.y))
