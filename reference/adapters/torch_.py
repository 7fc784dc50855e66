"""PyTorch: a function or a Module; gradients by autograd, of every floating input, the teacher's too.

A Module's class is made without arguments; its parameters and buffers are put in the dtype that is asked for. Of an
autograd.Function, forward and backward are checked as they are. Inputs lie on the CPU and are no leaves of the graph,
as logits are none: a function may change them in place.
"""

import copy
import inspect

import numpy as np

from tinydistill_reference.adapters.function import Call, by_output
from tinydistill_reference.adapters.target import TargetError, found, library
from tinydistill_reference.equation import is_floating


def adapt(target):
    """A `call`. target: "module:function", "file.py:function", or a function, a Module, or a class of them."""
    torch, thing = library("torch", "torch"), found(target)
    if isinstance(thing, type) and issubclass(thing, torch.autograd.Function):
        _, *parameters = inspect.signature(thing.forward).parameters.values()               # without ctx
        return Call(_named(thing.__name__, lambda *args: thing.apply(*args)), evaluate, inspect.Signature(parameters))
    if isinstance(thing, type):
        try:
            thing = thing()
        except TypeError as problem:
            raise TargetError(f"{thing.__name__} is not made without arguments: name an instance ({problem})") from None
    if isinstance(thing, torch.nn.Module):
        return Call(copy.deepcopy(thing), evaluate, inspect.signature(thing.forward))
    return Call(thing, evaluate)


def _named(name, function):
    function.__name__ = name
    return function


def evaluate(binding, inputs, attrs, grads, upstream, dtype):
    import torch
    kind = getattr(torch, dtype)
    if isinstance(binding.function, torch.nn.Module):
        binding.function.to(kind)
    leaves = {name: torch.tensor(x, dtype=kind, requires_grad=bool(grads))
              for name, x in inputs.items() if is_floating(x)}
    given = {name: leaves[name].clone() if name in leaves else torch.tensor(x) for name, x in inputs.items()}
    returned = binding(given | attrs)
    if returned is NotImplemented:
        return NotImplemented
    results = by_output(returned, binding.equation.outputs)
    answer = {name: _array(y) for name, y in results.items()}
    if not grads or not all(isinstance(y, torch.Tensor) for y in results.values()):
        return answer                               # numbers from outside of the graph have no gradient to test
    results = {name: y for name, y in results.items() if y.requires_grad and name in upstream}
    if any(np.shape(upstream[name]) not in ((), tuple(y.shape)) for name, y in results.items()):
        return answer                               # of another shape than asked for, which is told
    below = [torch.tensor(upstream[name], dtype=y.dtype).expand(y.shape) for name, y in results.items()]
    dxs = [None] * len(leaves)
    if results:
        dxs = torch.autograd.grad(list(results.values()), list(leaves.values()), below, allow_unused=True)
    return answer | {f"d{name}": None if dx is None else _array(dx) for name, dx in zip(leaves, dxs)}


def _array(y):
    """NumPy has no bfloat16."""
    if not hasattr(y, "detach"):
        return np.asarray(y)
    y = y.detach().cpu()
    return (y.double() if y.is_floating_point() else y).numpy()
