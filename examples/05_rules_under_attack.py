"""One in five lies: which ways of averaging bear it?

    python examples/05_rules_under_attack.py

Who lets strangers take part must expect that some send nonsense, by accident or on purpose. A plain mean follows
them; a robust rule does not. Each rule here meets each attack with the same clients, data and first model, and the map
at the end shows how many digits the last model gets right. Read along a row: a rule is as good as its worst attack.
"""

from fed_compute import sweep

result = sweep(
    {
        "name": "under-attack",
        "training": {"lr": 0.3, "local_epochs": 5},
        "rounds": {"total": 12, "target_updates": 15, "min_updates": 10},
        "evaluation": {"every_rounds": 0},
    },
    grid={
        "rule": ["fedavg", "median", "robust"],
        "attack": ["none", "sign_flip", "gaussian", "scaling"],
        "attackers": 0.2,
    },
    clients=20,
    split="dirichlet:1",
)
print(result.table(), end="\n\n")

for rule in dict.fromkeys(row.values["rule"] for row in result.rows):
    worst = min(
        (row for row in result.rows if row.values["rule"] == rule), key=lambda row: row.measure("accuracy").mean
    )
    print(f"{rule:8} at worst {worst.measure('accuracy').mean:.1%}, under {worst.values['attack']}")

folder = result.save("under-attack-report")
print(f"\nThe map: {folder / 'sweep-map.png'}. Every simulation: {folder / 'sweep.html'}")
