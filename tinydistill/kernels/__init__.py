"""Kernels: functions of arrays, no graph. In each file, top to bottom: the plain version in array code, which is the
specification and runs on NumPy and CuPy alike, then the fused NumPy version, named with the suffix `_numpy`.

`of(array)` is the set of kernels for an array: fused where its library has them, else plain. `use("plain")` forces
the specification everywhere; the two must agree by the tolerance rule and have the same signatures, and tests say so.
"""

import contextlib
import importlib
import inspect
import pkgutil
from types import SimpleNamespace

import numpy as np

from tinydistill.errors import WrongUsage

SUFFIX = "_numpy"


def _collect():
    """Every public function of every kernel file by name: the plain ones, and the same set with the fused ones in."""
    functions = {}
    for module in pkgutil.iter_modules(__path__):
        contents = vars(importlib.import_module(f"{__name__}.{module.name}"))
        functions |= {name: f for name, f in contents.items()
                      if inspect.isfunction(f) and f.__module__.startswith(__name__) and not name.startswith("_")}
    plain = {name: f for name, f in functions.items() if not name.endswith(SUFFIX)}
    fused = {name: functions.get(name + SUFFIX, f) for name, f in plain.items()}
    return SimpleNamespace(**plain), SimpleNamespace(**fused)


plain, fused_numpy = _collect()
_choice = "fused"


def of(array):
    """The kernels to use on `array`."""
    return fused_numpy if _choice == "fused" and isinstance(array, np.ndarray) else plain


def choose(name):
    """Use "fused" kernels where there are any (the default), or the "plain" specification everywhere."""
    global _choice
    if name not in ("fused", "plain"):
        raise WrongUsage(f"need kernels fused or plain, got {name!r}")
    _choice = name


@contextlib.contextmanager
def use(name):
    """`choose(name)` within this block."""
    before = _choice
    choose(name)
    try:
        yield
    finally:
        choose(before)
