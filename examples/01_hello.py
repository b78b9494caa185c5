"""Hello: a hundred computers learn to read handwritten digits together, and none of them exists.

    python examples/01_hello.py

The clients are virtual; everything else is real. Each one trains on images that only it has, a real coordinator checks
and averages what they send, and only time is made up: the minutes of a whole fleet pass in two seconds.
"""

from fed_compute import simulate

report = simulate(
    {"name": "hello", "training": {"lr": 0.2, "local_epochs": 10}, "rounds": {"total": 20, "target_updates": 20}},
    clients=100,
    data="digits",  # 1,797 real images; a fifth is held out, the rest is shared out
    behavior="volunteer",  # desktops, laptops and boards at home; some vanish in the middle of their work
    seed=1,
)

print(f"Before: {report.first.accuracy:.1%} of the digits that nobody trained on. After: {report.accuracy:.1%}.")
print(
    f"{report.summary()['updates']} updates counted, {report.summary()['vanished']} clients vanished while they worked."
)

folder = report.save("hello-report")
report.plot().savefig(folder / "accuracy.png", dpi=150)
print(f"Everything about it: {folder / 'report.html'}")
