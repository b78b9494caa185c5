"""One experiment's numbers, and who has which data."""

from dataclasses import dataclass
from typing import Literal, get_args

from fed_compute.client.datasets.dataset import Labels
from fed_compute.client.datasets.partition import Rows, dirichlet_parts, iid_parts, sorted_parts

Split = Literal["iid", "dirichlet", "sorted"]
SPLITS: tuple[Split, ...] = get_args(Split)
"""Data alike, data unlike, and one or two classes a client."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Everything that is the same in all cells of a table.

    In each of `rounds` rounds each client takes one batch of `batch_size` of its own samples, drawn with replacement,
    and folds the gradient g into an average that it keeps over the rounds: m ← momentum · m + (1 - momentum) · g.
    It sends -lr · m, one step of its own. The defaults are those of published tables: 5 of 25 lie. `root_samples` is
    how many samples the operator has for the rule that wants a trusted client.
    """

    num_clients: int = 25
    num_attackers: int = 5
    rounds: int = 600
    batch_size: int = 32
    lr: float = 0.1
    momentum: float = 0.9
    alpha: float = 0.5
    hidden_dim: int = 32
    root_samples: int = 100

    @property
    def attackers(self) -> tuple[int, ...]:
        """The places of those who lie, spread evenly: in sorted data no class is left to liars alone."""
        return tuple(i * self.num_clients // self.num_attackers for i in range(self.num_attackers))

    def parts(self, labels: Labels, split: Split, *, seed: int) -> list[Rows]:
        """Return the rows of each client's samples, disjoint, together all of them."""
        match split:
            case "iid":
                return iid_parts(len(labels), self.num_clients, seed=seed)
            case "dirichlet":
                return dirichlet_parts(labels, self.num_clients, alpha=self.alpha, seed=seed)
            case "sorted":
                return sorted_parts(labels, self.num_clients, seed=seed)
