"""Volunteers come and go: wait until a round is complete, or never wait at all?

    python examples/03_volunteers.py

A fleet of volunteers is uneven: desktops beside single-board computers, and some are switched off in the middle of a
task. Synchronous rounds wait until enough updates of one version are in. Asynchronous ones (FedBuff) make a new version
as soon as ten updates have come, whatever version they started from. Counted in rounds, waiting looks better; by the
clock it is the other way round.
"""

from fed_compute import sweep

GOAL = 0.75  # of the digits that nobody trained on

JOB = {
    "name": "volunteers",
    "training": {"lr": 0.2, "local_epochs": 5},
    "rounds": {"total": 30, "target_updates": 10},
    "evaluation": {"every_rounds": 0},  # else clients measure each version, which takes their time as well
}

result = sweep(
    JOB,
    grid={"mode": ["sync", "fedbuff"], "seed": [1, 2]},
    clients=60,
    behavior="volunteer",
    split="dirichlet:1",
)
print(result.table(), end="\n\n")

for row in result.rows:
    for outcome in row.done:
        there = next((one for one in outcome.rounds if one.accuracy >= GOAL), None)
        when = f"after {there.ended_seconds / 60:.1f} minutes, {there.round} rounds" if there else "not reached"
        print(f"{row.values['mode']:8} seed {outcome.run.seed}: {GOAL:.0%} {when}")

folder = result.save("volunteers-report")
print(f"\nSide by side: {folder / 'sweep.html'}, as a picture: {folder / 'sweep.png'}")
