"""Methods: one paper a file, each a short list of stages. `METHODS` is all of them by name."""

import importlib
import pkgutil

from tinydistill.errors import WrongUsage
from tinydistill.methods.stage import Method


def _collect():
    """Every Method that a file of this folder defines, in the order of the names."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    return {method.name: method for module in modules for method in vars(module).values() if isinstance(method, Method)}


METHODS = _collect()


def get(name):
    """The method called `name`."""
    if name not in METHODS:
        raise WrongUsage(f"need a method out of {', '.join(METHODS)}; got {name!r}")
    return METHODS[name]
