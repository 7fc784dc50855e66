"""Methods: one paper a file, each a short list of stages. `METHODS` is all of them by name."""

from tinydistill.errors import WrongUsage
from tinydistill.methods import minilm

METHODS = {module.method.name: module.method for module in (minilm,)}


def get(name):
    """The method called `name`."""
    if name not in METHODS:
        raise WrongUsage(f"need a method out of {', '.join(METHODS)}; got {name!r}")
    return METHODS[name]
