"""A whole training in one program: a coordinator, two clients, your own model and your own data.

Run it with `python examples/in_a_notebook.py`, or paste its parts into the cells of a notebook.
"""

# %% Your own model, by a name that a job may use. Code never travels: every machine registers its own.
import torch
from torch import nn

from fed_compute import Client, Coordinator, register_dataset, register_model


@register_model("two-layers")
def two_layers(width: int) -> nn.Module:
    """Return 64 pixels, `width` hidden units, 10 digits."""
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


# %% Your own data, by a name that a data specification may use.
@register_dataset("bright-digits")
def bright_digits(path, options):
    """Return handwritten digits whose pixels sum to at least `over`."""
    from fed_compute.client.datasets.digits import load_digits

    digits = load_digits(None, {})
    bright = digits.x.sum(axis=1) > float(options.get("over", "0"))
    return digits.x[bright], digits.y[bright]


# %% The job: what a job file says, as a dictionary.
JOB = {
    "name": "notebook",
    "model": {"name": "two-layers", "args": {"width": 32}},
    "training": {"lr": 0.2, "batch_size": 16},
    "rounds": {"total": 8, "target_updates": 2, "min_updates": 2},
}


# %% Train. Everything lies in a folder that goes away at the end; give the coordinator one to keep it.
def train(state_dir: str) -> tuple[nn.Module, list[float]]:
    """Return the trained model, and the accuracy after each round on what the clients held back."""
    with Coordinator() as coordinator:
        coordinator.create_job(JOB)
        data = ["bright-digits,over=15,part=1/2", "bright-digits,over=15,part=2/2"]
        clients = [Client(coordinator.url, data=each, state_dir=state_dir).start() for each in data]
        coordinator.wait("notebook", timeout_seconds=120)
        for client in clients:
            client.wait(timeout_seconds=60)
        model = two_layers(**JOB["model"]["args"])
        model.load_state_dict({name: torch.tensor(array) for name, array in coordinator.model("notebook").items()})
        return model, [round_["accuracy"] for round_ in coordinator.rounds("notebook") if round_["accuracy"]]


# %%
if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        _, accuracies = train(folder)
    for number, accuracy in enumerate(accuracies, start=1):
        print(f"round {number}: {accuracy:.1%} of the digits that nobody trained on")
