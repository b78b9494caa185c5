"""Python's search for cyclic garbage, which must not cost more than the work."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def settled_heap() -> Iterator[None]:
    """Keep everything that is there now until the block ends: no search for garbage goes through it.

    The libraries alone are some hundred thousand objects. To go through them takes a tenth of a second, every few
    rounds, and finds nothing. What is made within the block is searched as ever.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
