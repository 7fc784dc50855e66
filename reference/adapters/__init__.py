"""Adapters: somebody's own loss becomes the `call` that runner.py asks.

    torch     a function or torch.nn.Module; gradients by autograd
    jax       a function; gradients by jax.vjp
    numpy     a function that returns its value, or (value, gradients)
    command   a program in any language, which reads a request from a folder and writes its answer beside it

A function is given as it is, or named: "package.module:function", or "folder/file.py:function". What goes to which of
its parameters is settled by their names, or else their order (binding.py).
"""

from tinydistill_reference.adapters import command, jax_, numpy_, torch_
from tinydistill_reference.adapters.target import TargetError, found

__all__ = ["ADAPTERS", "TargetError", "adapt", "found"]

ADAPTERS = {"torch": torch_.adapt, "jax": jax_.adapt, "numpy": numpy_.adapt, "command": command.adapt}


def adapt(kind, target):
    """The `call` of a target. It has `bound` (what went where, in one line) and `untaken` (what the target does not
    take, so that some cases are not run); that of a function also `bind(equation)`, which runner.run asks before any
    case. TargetError, a ValueError, says that there is no such target or that it does not fit."""
    if kind not in ADAPTERS:
        raise TargetError(f"need one of {', '.join(ADAPTERS)}, got {kind!r}")
    return ADAPTERS[kind](target)
