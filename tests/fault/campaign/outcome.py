"""What came of one kind of fault: counts, and what the counts allow one to say."""

from collections import Counter
from dataclasses import dataclass, field

SHOWN = 5


@dataclass
class Outcome:
    """What was done to the coordinator, and every promise that it broke."""

    kind: str
    trials: int = 0
    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """Breaches of the invariants, and what the coordinator told or has on record that nobody sent."""
    unexpected: list[str] = field(default_factory=list)
    """Answers that nothing explains, and what did not go on afterwards."""
    answers: Counter[int] = field(default_factory=Counter)
    start_seconds: list[float] = field(default_factory=list)
    details: Counter[str] = field(default_factory=Counter)
    """How often which variant of the fault struck."""

    @property
    def is_sound(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.doubled or self.broken or self.unexpected)

    @property
    def bound(self) -> float | None:
        """The largest rate of failures that no failure in so many trials leaves likely, at 95 %: 3/n."""
        return min(1.0, 3 / self.trials) if self.trials and self.is_sound else None

    def add(self, other: "Outcome") -> None:
        """Take in what came of more trials of the same kind."""
        self.trials += other.trials
        self.acknowledged += other.acknowledged
        self.lost += other.lost
        self.doubled += other.doubled
        self.broken += other.broken
        self.unexpected += other.unexpected
        self.answers += other.answers
        self.start_seconds += other.start_seconds
        self.details += other.details

    def complaints(self) -> list[str]:
        """Return the first few of each sort of broken promise, as lines."""
        sorts = {"lost": self.lost, "doubled": self.doubled, "broken": self.broken, "unexpected": self.unexpected}
        return [f"{sort}: {text}" for sort, found in sorts.items() for text in found[:SHOWN]]
