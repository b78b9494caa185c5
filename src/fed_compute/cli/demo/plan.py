"""What a demonstration is made of: its job, its clients' data, and who dies when. Pure."""

import math
from dataclasses import dataclass

import numpy as np

from fed_compute.errors import SettingInvalid

JOB_NAME = "demo"
DIGITS = 10
MOST_CLIENTS, MOST_ROUNDS, HIGHEST_SEED = 50, 1_000, 10**18 - 1
SHORTEST_AWAY_SECONDS, LONGEST_AWAY_SECONDS = 1.0, 3.0

_JOB = """\
# Handwritten digits, 8×8 pixels, from scikit-learn: 1,797 real images, ten classes.
# Each client holds its own part, and no part looks like another (Dirichlet, alpha {alpha}):
{data_lines}
name = "{name}"
description = "Handwritten digits on {clients} clients with very different data."
seed = {seed}

[model]
name = "simple_mlp"
args = {{ input_dim = 64, hidden_dim = 64, output_dim = {digits} }}

[training]
loss = "cross_entropy"
optimizer = "sgd"
lr = 0.05
momentum = 0.9
batch_size = 16
local_epochs = {local_epochs}

[rounds]
total = {rounds}
target_updates = {target}       # a round closes as soon as so many clients have reported
min_updates = {minimum}          # at the deadline, fewer than this abandon the round
over_selection = {over_selection}
deadline_seconds = {deadline_seconds}
start_fraction = {start_fraction}       # of target_updates clients must be there before a round begins

[evaluation]
every_rounds = 1
max_clients = {clients}
holdout_fraction = 0.2
"""


@dataclass(frozen=True, slots=True)
class Death:
    """One client is killed when `fraction` of a usual round has passed, and started again `away_seconds` later."""

    client: str
    fraction: float
    away_seconds: float


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """One demonstration. `drop` is the probability that a client is killed in a round, 0 to 1."""

    clients: int
    rounds: int
    seed: int
    drop: float = 0.0
    alpha: float = 0.5

    @property
    def names(self) -> tuple[str, ...]:
        """The clients' names, which never change: `client-1` and so on."""
        return tuple(f"client-{number}" for number in range(1, self.clients + 1))

    def data_of(self, name: str) -> str:
        """Return a client's data specification: its part of the digits."""
        number = self.names.index(name) + 1
        return f"digits,part={number}/{self.clients},split=dirichlet,alpha={self.alpha},seed={self.seed}"

    @property
    def target_updates(self) -> int:
        """The updates that close a round.

        Without deaths that is everybody, so that the same seed gives the same model. With deaths it
        is the share that is expected to live, and always more than half: training goes on without
        the dead, but never on one client's data alone.
        """
        expected_alive = round(self.clients * (1 - self.drop), 6)  # 25 · (1 − 0.44) is a little over 14
        return max(math.ceil(expected_alive), self.clients // 2 + 1)

    def job_text(self) -> str:
        """Return the job file, ready to be served and to be copied."""
        target = self.target_updates
        waits_for_all = self.drop == 0
        return _JOB.format(
            name=JOB_NAME,
            clients=self.clients,
            rounds=self.rounds,
            seed=self.seed,
            alpha=self.alpha,
            digits=DIGITS,
            data_lines="\n".join(f"#   {name}: {self.data_of(name)}" for name in self.names),
            local_epochs=max(2, round(0.4 * self.clients)),  # small parts are gone through more often
            target=target,
            minimum=target if waits_for_all else math.ceil(target / 2),
            over_selection=1.0 if waits_for_all else self.clients / target,
            deadline_seconds=600.0 if waits_for_all else 60.0,
            start_fraction=0.0 if waits_for_all else 1.0,
        )

    def deaths_in(self, round_id: int) -> tuple[Death, ...]:
        """Return who is killed in a round; the same for the same seed and round."""
        stream = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, round_id])))
        drawn = stream.random((self.clients, 3))
        span = LONGEST_AWAY_SECONDS - SHORTEST_AWAY_SECONDS
        return tuple(
            Death(name, float(fraction), SHORTEST_AWAY_SECONDS + span * float(away))
            for name, (chance, fraction, away) in zip(self.names, drawn, strict=True)
            if chance < self.drop
        )


def make_plan(*, clients: int, rounds: int, seed: int, drop: float) -> DemoPlan:
    """Check what was asked for and return it as a plan.

    Raises:
        SettingInvalid: naming the option, what was found and what was wanted.
    """
    if not 1 <= clients <= MOST_CLIENTS:
        raise SettingInvalid(f"--clients is {clients}, wanted a whole number from 1 to {MOST_CLIENTS}")
    if not 1 <= rounds <= MOST_ROUNDS:
        raise SettingInvalid(f"--rounds is {rounds}, wanted a whole number from 1 to {MOST_ROUNDS}")
    if not 0 <= seed <= HIGHEST_SEED:
        raise SettingInvalid(f"--seed is {seed}, wanted a whole number from 0 to {HIGHEST_SEED}")
    if not 0 <= drop <= 1:  # also refuses NaN
        raise SettingInvalid(f"--drop is {drop}, wanted a probability from 0 to 1")
    return DemoPlan(clients, rounds, seed, drop)
