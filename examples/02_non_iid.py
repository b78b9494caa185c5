"""Nobody has the same data: what that costs, and what helps.

    python examples/02_non_iid.py

In life each machine has a mixture of its own: one saw mostly sevens, another mostly twos. Each client then pulls the
model its own way, and the average of their steps is worse than it could be. Here twenty clients share the digits out by
a Dirichlet distribution: first as a picture, then as a race of algorithms, each with two seeds.
"""

from fed_compute import simulate, sweep

JOB = {
    "name": "non-iid",
    "training": {"lr": 0.1, "local_epochs": 5, "batch_size": 16},
    "rounds": {"total": 20, "target_updates": 10},  # half of the clients work in each round
    "evaluation": {"every_rounds": 0},  # measured here on held-out digits; clients need not measure as well
}

# An algorithm is no other program, only a few other lines of the job.
ALGORITHMS = {
    "FedAvg, if all were alike": {"split": "iid"},
    "FedAvg": {},
    "FedProx": {"proximal_mu": 0.1},  # holds clients near the global model (Li et al. 2020)
    "FedAdam": {"server_optimizer": "adam", "server_lr": 0.03},  # the server's steps adapt (Reddi et al. 2021)
    # Each client corrects its steps by how they differ from everybody's (Karimireddy et al. 2020).
    "SCAFFOLD": {"control_variates": 0.9, "control_fraction": 0.5, "report_steps": True},
}

result = sweep(JOB, grid={"algorithm": ALGORITHMS, "seed": [1, 2]}, clients=20, split="dirichlet:0.2")
folder = result.save("non-iid-report")
print(result.table())

mixture = simulate(JOB, clients=20, split="dirichlet:0.2", seed=1, rounds=1)
mixture.plot_split().savefig(folder / "who-has-what.png", dpi=150)
print(f"\nWho has what: {folder / 'who-has-what.png'}. How they learn: {folder / 'sweep.png'}, {folder / 'sweep.html'}")
