"""What all trials of an experiment gave, and how it is written down."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from fed_compute.simulator.robustness.setting import Split

ATTACK_LABELS: Mapping[str, str] = {
    "none": "no attack",
    "label_flip": "label flip",
    "sign_flip": "sign flip",
    "ipm": "IPM 0.1",
    "fall_of_empires": "IPM 2 (FoE)",
    "alie": "ALIE",
    "gaussian": "Gaussian",
    "scaling": "scaling",
    "mimic": "mimic",
    "sample_count_lie": "count lie",
    "free_rider": "free rider",
    "disguised_free_rider": "stale update",
}
DEFENCE_LABELS: Mapping[str, str] = {
    "fedavg": "mean",
    "norm_clipping": "clip",
    "median": "median",
    "trimmed_mean": "trim",
    "krum": "Krum",
    "multi_krum": "MKrum",
    "geometric_median": "RFA",
    "centered_clipping": "CC",
    "bucketing": "bucket",
    "fltrust": "trust",
    "robust": "robust",
}
"""Short enough for all rules beside each other on a terminal of 80 columns."""
SPLIT_LABELS: Mapping[Split, str] = {
    "iid": "IID: all clients have the same mixture of digits",
    "dirichlet": "Dirichlet 0.5: each client has a mixture of its own",
    "sorted": "Sorted by label: each client has one or two digits",
}
PAPER_ATTACKS = ("label_flip", "sign_flip", "ipm", "fall_of_empires", "alie", "gaussian", "scaling", "mimic")
"""The attacks that published tables have; the others aim at weights and rewards."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One attack against one defence on one kind of data: accuracy in percent, one for each seed."""

    split: Split
    attack: str
    defence: str
    accuracies: tuple[float, ...]
    failed_rounds: int

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return sum(self.accuracies) / len(self.accuracies)


class Table:
    """Cells by split, attack and defence."""

    def __init__(self, cells: Iterable[Cell]) -> None:
        self._cells = {(cell.split, cell.attack, cell.defence): cell for cell in cells}

    @property
    def cells(self) -> list[Cell]:
        """All cells in order."""
        return list(self._cells.values())

    @property
    def splits(self) -> list[Split]:
        """The kinds of data, in order."""
        return list(dict.fromkeys(split for split, _, _ in self._cells))

    @property
    def attacks(self) -> list[str]:
        """The attacks, in order."""
        return list(dict.fromkeys(attack for _, attack, _ in self._cells))

    @property
    def defences(self) -> list[str]:
        """The defences, in order."""
        return list(dict.fromkeys(defence for _, _, defence in self._cells))

    def mean(self, split: Split, attack: str, defence: str) -> float:
        """Return a cell's accuracy in percent, the mean over its seeds."""
        return self._cells[split, attack, defence].mean

    def worst(self, split: Split, defence: str, attacks: Sequence[str] | None = None) -> float:
        """Return the lowest accuracy of a defence under all attacks of the table, or under those given."""
        return min(self.mean(split, attack, defence) for attack in attacks or self.attacks)

    def rows(self, split: Split) -> list[tuple[str, list[float]]]:
        """Return the labels of the attacks with the accuracy behind each defence, and the worst of each as last row."""
        rows = [
            (ATTACK_LABELS[attack], [self.mean(split, attack, defence) for defence in self.defences])
            for attack in self.attacks
        ]
        return [*rows, ("worst", [self.worst(split, defence) for defence in self.defences])]

    def to_markdown(self) -> str:
        """Return one table for each kind of data; in each row the best is bold."""
        parts = []
        for split in self.splits:
            head = ["attack", *(f"`{defence}`" for defence in self.defences)]
            lines = [f"### {SPLIT_LABELS[split]}", "", _line(head), _line(["---", *["---:"] * len(self.defences)])]
            for label, values in self.rows(split):
                best = max(round(value, 1) for value in values)
                texts = [f"**{value:.1f}**" if round(value, 1) == best else f"{value:.1f}" for value in values]
                lines.append(_line([label if label != "worst" else "**worst**", *texts]))
            parts.append("\n".join(lines))
        return "\n\n".join(parts)

    def to_json(self) -> list[dict[str, Any]]:
        """Return the cells as plain data; `from_json` reads it back."""
        return [
            {
                "split": cell.split,
                "attack": cell.attack,
                "defence": cell.defence,
                "accuracy": round(cell.mean, 2),
                "accuracies": [round(accuracy, 2) for accuracy in cell.accuracies],
                "failed_rounds": cell.failed_rounds,
            }
            for cell in self.cells
        ]

    @classmethod
    def from_json(cls, cells: Sequence[Mapping[str, Any]]) -> Self:
        """Read what `to_json` wrote."""
        return cls(
            Cell(cell["split"], cell["attack"], cell["defence"], tuple(cell["accuracies"]), cell["failed_rounds"])
            for cell in cells
        )


def _line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"
