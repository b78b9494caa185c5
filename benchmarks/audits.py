"""What audits by held-out loss find, and whom they wrong, on real data: digits cut among ten machines.

Two of the ten attack; the model is trained on the honest updates alone, as behind a robust rule, so that
every row of the table sees the same training. Each round at most a quarter of the updates is audited by
three machines drawn by lot, liars among them, who report the opposite of what they measured.

Claim 1: of the attackers that multiply their updates, three in four fail an audit, over all kinds of data.
Claim 2: without an attack, at most one honest machine in twenty fails an audit in all the rounds.
A flipped update of ordinary length is told, not promised: where data are unlike, a loss cannot tell it
from an honest one. `GET /rounds/{id}/contribution` shows those: they point away from everybody else.

    python benchmarks/audits.py [--rounds 40] [--seeds 3] [--json FILE]
"""

import argparse
import json
import os
import platform
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from fed_compute.client.datasets import Dataset, load_dataset, split_holdout
from fed_compute.client.trainer import evaluate, set_threads, train
from fed_compute.protocol.job import JobSpec, TrainingSection
from fed_compute.protocol.messages import Recipe
from fed_compute.protocol.schema import Vector, draw_initial
from fed_compute.rounds.audits import SCORES_KEPT, Candidate, Verdict, choose_audited, loss_score, verdict_on
from fed_compute.rounds.quota import QuotaRules
from fed_compute.rounds.scoring import Moment, Standing

MACHINES, ATTACKERS, AUDITORS = 10, 2, 3
SPLITS = {"alike": "", "α = 1": ",split=dirichlet,alpha=1", "α = 0.3": ",split=dirichlet,alpha=0.3"}
Attack = Callable[[Vector, np.random.Generator], Vector]
ATTACKS: dict[str, Attack] = {
    "none": lambda delta, rng: delta,
    "flipped": lambda delta, rng: -delta,
    "flipped ×5": lambda delta, rng: -5 * delta,
    "×10": lambda delta, rng: 10 * delta,
    "noise ×10": lambda delta, rng: _noise(delta, rng, 10.0),
}
GREAT_HARM = ("flipped ×5", "×10")
LEAST_FOUND = 0.75
MOST_WRONGED = 0.05


@dataclass
class Tally:
    """What audits did to two groups of machines in one training."""

    audits: int = 0
    updates: int = 0
    failed: set[int] = field(default_factory=set)
    first_failure: dict[int, int] = field(default_factory=dict)


def main() -> int:
    """Run every pair of a split and an attack, print a table, and say whether the claims hold."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=40, help="rounds of each training (default 40)")
    arguments.add_argument("--seeds", type=int, default=3, help="trainings for each row (default 3)")
    arguments.add_argument("--json", type=Path, help="also write the result to this file")
    options = arguments.parse_args()
    set_threads(1)
    rows = [row for split in SPLITS for row in measure(split, options.rounds, options.seeds)]
    harmful = [row["found"] for row in rows if row["attack"] in GREAT_HARM]
    found = sum(harmful) / len(harmful) >= LEAST_FOUND
    fair = all(row["wronged"] <= MOST_WRONGED for row in rows if row["attack"] == "none")
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "rounds": options.rounds,
        "seeds": options.seeds,
        "machines": MACHINES,
        "rows": rows,
        "holds": {"great harm is found": found, "few are wronged": fair},
    }
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if all(result["holds"].values()) else 1


def measure(split: str, rounds: int, seeds: int) -> list[dict]:
    """Train once for each seed, and audit every attack beside it."""
    tallies: dict[str, list[Tally]] = {attack: [] for attack in ATTACKS}
    for seed in range(seeds):
        for attack, tally in one_training(split, rounds, seed).items():
            tallies[attack].append(tally)
    return [_row(split, attack, found) for attack, found in tallies.items()]


def one_training(split: str, rounds: int, seed: int) -> dict[str, Tally]:
    """Return what audits did under each attack, in trainings that begin and go on alike."""
    spec = JobSpec(training=TrainingSection(lr=0.3, local_epochs=2), seed=seed)
    parts = [
        split_holdout(load_dataset(f"digits,part={place + 1}/{MACHINES}{SPLITS[split]},seed={seed}"), 0.2, 0)
        for place in range(MACHINES)
    ]
    halls = {attack: Hall(attack, seed) for attack in ATTACKS}
    vector = draw_initial(spec.schema_of_model(), seed=seed)
    for number in range(rounds):
        results = [train(_recipe(spec, 100 * number + p), vector, data) for p, (data, _) in enumerate(parts)]
        base = [_loss(spec, vector, held_out) for _, held_out in parts]
        for hall in halls.values():
            hall.look(number, [result.delta for result in results], vector, parts, base, spec)
        honest = results[ATTACKERS:]
        mean = np.average([r.delta for r in honest], axis=0, weights=[r.num_samples for r in honest])
        vector = (vector + mean).astype(np.float32)
    return {attack: hall.tally for attack, hall in halls.items()}


class Hall:
    """All audits of one training under one attack. The first machines attack, and lie when they audit."""

    def __init__(self, attack: str, seed: int) -> None:
        self.tally = Tally()
        self._attack = ATTACKS[attack]
        self._liars = frozenset(range(ATTACKERS)) if attack != "none" else frozenset()
        self._rng = np.random.default_rng([seed, len(attack)])
        self._standings = [Standing.newcomer(QuotaRules()) for _ in range(MACHINES)]
        self._passed: deque[float] = deque(maxlen=SCORES_KEPT)

    def look(
        self, number: int, deltas: list[Vector], vector: Vector, parts: list[tuple[Dataset, Dataset]],
        base: list[float], spec: JobSpec,
    ) -> None:  # fmt: skip
        """Audit some updates of one round."""
        candidates = [
            Candidate(place, standing.audits_passed_in_a_row, standing.is_suspicious)
            for place, standing in enumerate(self._standings)
        ]
        self.tally.updates += len(deltas)
        for place in choose_audited(candidates, self._rng):
            delta = self._attack(deltas[place], self._rng) if place in self._liars else deltas[place]
            auditors = self._rng.choice([one for one in range(MACHINES) if one != place], AUDITORS, replace=False)
            changed = (vector + delta).astype(np.float32)
            scores = [self._score(one, base[one], _loss(spec, changed, parts[one][1])) for one in auditors]
            self._judge(number, place, scores)

    def _score(self, auditor: int, base: float, loss: float | None) -> float:
        score = loss_score(base, loss)
        return -score if auditor in self._liars else score

    def _judge(self, number: int, place: int, scores: list[float]) -> None:
        standing = self._standings[place]
        verdict = verdict_on(scores, passed_scores=self._passed, doubts_before=standing.doubts_in_a_row)
        if verdict is Verdict.PASSED:
            self._passed.append(float(np.median(scores)))
        if verdict is Verdict.FAILED:
            self.tally.failed.add(place)
            self.tally.first_failure.setdefault(place, number)
        self.tally.audits += 1
        self._standings[place] = standing.audited(Moment(number), verdict=verdict, helped=False)


def _recipe(spec: JobSpec, seed: int) -> Recipe:
    schema = spec.schema_of_model()
    return Recipe(
        model=spec.model.name, model_args=spec.model.args, schema_digest=schema.digest(),
        parameters=[(parameter.name, list(parameter.shape)) for parameter in schema.parameters],
        training=spec.training, holdout_fraction=0.2, encoding="f32", compression="none", topk_fraction=1.0,
        max_update_norm=None, seed=seed,
    )  # fmt: skip


def _loss(spec: JobSpec, vector: Vector, held_out: Dataset) -> float:
    return evaluate(_recipe(spec, 0), vector, held_out).loss


def _noise(delta: Vector, rng: np.random.Generator, factor: float) -> Vector:
    noise = rng.standard_normal(delta.size)
    return (noise * factor * np.linalg.norm(delta) / np.linalg.norm(noise)).astype(np.float32)


def _row(split: str, attack: str, tallies: list[Tally]) -> dict:
    liars = 0 if attack == "none" else ATTACKERS
    found = [len(tally.failed & set(range(liars))) for tally in tallies]
    wronged = [len(tally.failed - set(range(liars))) for tally in tallies]
    when = [number for tally in tallies for place, number in tally.first_failure.items() if place < liars]
    return {
        "split": split,
        "attack": attack,
        "found": sum(found) / (liars * len(tallies)) if liars else None,
        "found_in_round": float(np.median(when)) + 1 if when else None,
        "wronged": sum(wronged) / ((MACHINES - liars) * len(tallies)),
        "audited": sum(tally.audits for tally in tallies) / sum(tally.updates for tally in tallies),
    }


def show(result: dict) -> None:
    """Print the result as a table."""
    title = f"Audits by held-out loss, {result['rounds']} rounds, {result['seeds']} trainings ({result['machine']})"
    table = Table(title=title)
    for column in ("data", "attack", "found", "in round", "wronged", "audited"):
        table.add_column(column, justify="left" if column in ("data", "attack") else "right")
    for row in result["rows"]:
        found = "" if row["found"] is None else f"{row['found']:.0%}"
        when = "" if row["found_in_round"] is None else f"{row['found_in_round']:.0f}"
        table.add_row(row["split"], row["attack"], found, when, f"{row['wronged']:.1%}", f"{row['audited']:.1%}")
    console = Console(file=sys.stdout)
    console.print(table)
    for claim, holds in result["holds"].items():
        console.print(f"{claim}: {'holds' if holds else 'BROKEN'}")


if __name__ == "__main__":
    raise SystemExit(main())
