"""What the stable codes of refusals mean, in a sentence each."""

from collections.abc import Iterator
from functools import cache

from fed_compute.errors import FedComputeError


def meaning(code: str) -> str:
    """Return the sentence that says what a code means, nothing for one that this version does not know."""
    return _meanings().get(code, "")


@cache
def _meanings() -> dict[str, str]:
    return {kind.code: (kind.__doc__ or "").splitlines()[0] for kind in _kinds(FedComputeError) if kind.__doc__}


def _kinds(kind: type[FedComputeError]) -> Iterator[type[FedComputeError]]:
    for below in kind.__subclasses__():
        yield below
        yield from _kinds(below)
