"""What a client's process loads. Volunteers have slow machines, and a demonstration starts many clients at once."""

import subprocess
import sys

FIRST_TASKS = """
import sys
import fed_compute.cli.main
from fed_compute.client.datasets import load_dataset
from fed_compute.client.trainer import train
from fed_compute.client.wiring import build_client
from tests.unit.client.recipes import recipe_for, start_of

data = load_dataset("digits,part=1/60")
for optimizer in ("sgd", "adam", "adamw"):
    recipe = recipe_for(training={"optimizer": optimizer, "max_grad_norm": 1.0})
    train(recipe, start_of(recipe), data)
print(*sorted({name.partition(".")[0] for name in sys.modules} | {"torch._dynamo"} & sys.modules.keys()))
"""
COORDINATOR_LIBRARIES = {"alembic", "fastapi", "prometheus_client", "sqlalchemy", "starlette", "uvicorn"}
SLOW_LIBRARIES = {"matplotlib", "scipy", "sklearn", "torch._dynamo"}


def test_a_client_trains_without_loading_the_coordinator_scikit_learn_or_pytorch_s_compiler() -> None:
    """Each of them takes as long to load as PyTorch itself, and none is of use to a client."""
    done = subprocess.run([sys.executable, "-c", FIRST_TASKS], capture_output=True, text=True, timeout=50, check=True)
    loaded = set(done.stdout.split())
    assert {"torch", "numpy", "httpx2"} <= loaded
    assert loaded & (COORDINATOR_LIBRARIES | SLOW_LIBRARIES) == set()
