"""What a result depends on beside its inputs, and whether it is the same everywhere."""

import hashlib
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

import fed_compute.client
from fed_compute.errors import ClusterUnusable

_DIGEST_LETTERS = 12


@cache
def versions() -> dict[str, str]:
    """Return the versions of this process: of the product, with a digest of its source, and of what computes for it."""
    source = hashlib.sha256()
    root = Path(fed_compute.client.__file__).parent.parent
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix()):
        source.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return {
        "fed-compute": f"{version('fed-compute')} (source {source.hexdigest()[:_DIGEST_LETTERS]})",
        "numpy": np.__version__,
        "torch": str(torch.__version__),
    }


def processor() -> str:
    """Return which instructions PyTorch computes with here. Others may round otherwise."""
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def check_versions(found: Mapping[str, str], wanted: Mapping[str, str], *, node: str) -> None:
    """Raise ClusterUnusable unless a node's versions are the wanted ones: others would train something else."""
    wrong = [
        f"{name} {found.get(name, 'none')} (here {version})"
        for name, version in wanted.items()
        if found.get(name) != version
    ]
    if wrong:
        raise ClusterUnusable(
            f"node {node} has {', '.join(wrong)}; install the same versions on each node of the cluster as here"
        )
