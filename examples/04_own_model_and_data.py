"""Your own model and your own data, for real: a coordinator and three clients over HTTP.

    python examples/04_own_model_and_data.py

Three schools collected handwritten digits. One has only 0 to 3, one only 4 to 6, one only 7 to 9, so none can teach a
model to read alone. The images stay where they are; what travels are changes of the model. Here all run in one program.
On three machines each school runs the same lines with the coordinator's address, and the model and data are as private.
"""

import csv
import tempfile
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import nn

from fed_compute import Client, Coordinator, register_model


# Your own model. Code never travels: each machine registers it under the name that the job says.
@register_model("reader")
def reader(width: int) -> nn.Module:
    """Return a small convolutional network for 8×8 pixels, ten classes."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(width * 16, 10),
    )


JOB = {
    "name": "three-schools",
    "model": {"name": "reader", "args": {"width": 8}},
    "training": {"lr": 0.2, "batch_size": 32, "local_epochs": 2},
    "rounds": {"total": 10, "target_updates": 3, "min_updates": 3, "over_selection": 1.0},
}

torch.set_num_threads(1)  # the quickest for a model as small as this
x, y = load_digits(return_X_y=True)
x = (x / 16).astype(np.float32)
is_test = np.arange(len(x)) % 5 == 0  # no school has these
schools = {"0 to 3": (0, 3), "4 to 6": (4, 6), "7 to 9": (7, 9)}
shares = {name: ~is_test & (y >= low) & (y <= high) for name, (low, high) in schools.items()}


def accuracy(model: nn.Module) -> float:
    """Return the share of the test digits that a model reads."""
    with torch.no_grad():
        return float((model(torch.tensor(x[is_test])).argmax(1).numpy() == y[is_test]).mean())


def trained_alone(share: np.ndarray) -> nn.Module:
    """Return what a school gets from its own digits only."""
    torch.manual_seed(0)
    model = reader(**JOB["model"]["args"])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    images, labels = torch.tensor(x[share]), torch.tensor(y[share])
    for _ in range(6):
        for batch in torch.randperm(len(images)).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    return model


def data_of(folder: Path) -> list:
    """Return each school's data in another form: arrays, a NumPy file, a CSV file."""
    first, second, third = shares.values()
    np.savez(folder / "second.npz", x=x[second], y=y[second])
    with (folder / "third.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([*(f"pixel{number}" for number in range(64)), "digit"])
        rows.writerows([*image, label] for image, label in zip(x[third], y[third], strict=True))
    return [(x[first], y[first]), f"npz:{folder / 'second.npz'}", f"csv:{folder / 'third.csv'},label=digit"]


def trained_together(folder: Path) -> list[float]:
    """Return the accuracy of each version of the model that the three schools train."""
    with Coordinator(folder / "coordinator") as coordinator:
        coordinator.create_job(JOB)
        clients = [Client(coordinator.url, data=data, state_dir=folder).start() for data in data_of(folder)]
        coordinator.wait("three-schools", timeout_seconds=120)
        for client in clients:
            client.wait(timeout_seconds=60)
        accuracies = []
        for number in range(1, JOB["rounds"]["total"] + 2):
            model, arrays = reader(**JOB["model"]["args"]), coordinator.model("three-schools", f"v{number}")
            model.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
            accuracies.append(accuracy(model))
        return accuracies


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        together = trained_together(Path(folder))
    alone = {name: accuracy(trained_alone(share)) for name, share in shares.items()}
    for name, reached in alone.items():
        print(f"The school with {name}, alone:  {reached:6.1%} of all digits")
    print(f"The three of them, together:  {together[-1]:6.1%}")

    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axis = figure.subplots()
    axis.plot([100 * value for value in together], color="#0b6fb8", linewidth=2, label="all three together")
    for (name, reached), colour in zip(alone.items(), ("#d1495b", "#e8a33d", "#2a9d74"), strict=True):
        axis.axhline(100 * reached, color=colour, linestyle="--", label=f"the one with {name}, alone")
    axis.set(xlabel="round", ylabel="digits read, %", ylim=(0, 100))
    axis.set_title("Three schools, none of which has all digits", loc="left", weight="bold")
    axis.grid(color="#e4e4e4")
    axis.spines[:].set_visible(False)
    axis.legend(frameon=False)
    Path("own-model-report").mkdir(exist_ok=True)
    figure.savefig("own-model-report/accuracy.png", dpi=150)
    print("The picture: own-model-report/accuracy.png")
