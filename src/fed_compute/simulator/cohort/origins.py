"""Where the code of a model lies that this process alone knows by name, so that other processes can import it."""

import sys
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from operator import attrgetter

from fed_compute.client.models.registry import MODELS_GROUP, register_model, registered_model


def origin_of(model: str) -> str | None:
    """Return `module:name` of a model that this process registered; None if every process finds it by itself.

    So it is with built-in models and with those of installed packages. One that cannot be imported elsewhere has an
    origin too; ask `why_only_here` first.
    """
    build = registered_model(model)
    return None if build is None else f"{build.__module__}:{build.__qualname__}"


def why_only_here(model: str) -> str | None:
    """Say why no other process can build a model, or None if it can."""
    build = registered_model(model)
    if build is None:
        return None
    module, name = getattr(build, "__module__", None), getattr(build, "__qualname__", None)
    if module is None or name is None:
        return f"it is made by a {type(build).__name__}, wanted a class or a function"
    if "<" in name:
        return f"{name} is defined within a function; move it to the top of its module"
    if module == "__main__":
        return f"{name} is defined in the program that runs; move it into a module of its own and import it from there"
    if not _is_findable(module) or _look_up(module, name) is not build:
        return f"{name} is not what one finds on importing it from {module}; move it into a module of its own"
    return None


def adopt(model: str, origin: str) -> None:
    """Import the code of a model and know it by its name from now on.

    Raises:
        ImportError, AttributeError: if it is not there.
    """
    register_model(model)(EntryPoint(model, origin, MODELS_GROUP).load())


def _is_findable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # made by hand, or a part of what is not there
        return False


def _look_up(module: str, name: str) -> object:
    try:
        return attrgetter(name)(sys.modules[module])
    except (KeyError, AttributeError):
        return None
