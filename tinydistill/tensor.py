"""Automatic differentiation: a Tensor is an array that remembers its inputs and a pullback.

An op is a function of arrays that returns `(y, pullback)`. The pullback is the vector-Jacobian product: it maps dL/dy
to one gradient for each positional argument, and it is pure, so only `gradients` ever adds anything up. First order,
no in-place, no views, no global tape.

    >>> import numpy as np
    >>> from tinydistill import Tensor, gradients
    >>> x = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    >>> loss = (x * x + x).sum()
    >>> gradients(loss, [x])
    [array([3., 5.])]
"""

import contextlib
import functools
import threading
from dataclasses import dataclass

import numpy as np

from tinydistill.backend import add_at, xp_of


class Tensor:
    """An array, the Tensors it was computed from, and the pullback that leads back to them.

    Operators, indexing and methods such as `sum` and `reshape` are attached by `tinydistill.ops`.
    """

    __slots__ = ("array", "inputs", "pullback", "requires_grad", "grad", "__weakref__")
    __array_ufunc__ = None                          # ndarray * Tensor asks Tensor, not NumPy

    def __init__(self, array, requires_grad=False, inputs=(), pullback=None):
        self.array = array
        self.requires_grad = requires_grad
        self.inputs = inputs
        self.pullback = pullback
        self.grad = None

    @property
    def shape(self):
        return self.array.shape

    @property
    def dtype(self):
        return self.array.dtype

    @property
    def ndim(self):
        return self.array.ndim

    def item(self):
        """The number in a Tensor of one element. On a GPU this waits for the device."""
        return self.array.item()

    def backward(self):
        """Add dself/dleaf to `.grad` of every leaf that requires a gradient. `gradients` is the form without effects."""
        leaves = [t for t in topological_order(self) if not t.inputs]
        for leaf, gradient in zip(leaves, gradients(self, leaves)):
            leaf.grad = gradient if leaf.grad is None else add_gradients(leaf.grad, gradient)

    def __repr__(self):
        return f"Tensor({self.array!r}{', requires_grad=True' if self.requires_grad else ''})"


@dataclass(frozen=True)
class RowSparse:
    """A gradient of a (V, D) table of which few rows were read: `values` (N, D) at `rows` (N,), which may repeat."""

    rows: object
    values: object
    shape: tuple

    def dense(self):
        """The same gradient as a (V, D) array."""
        xp = xp_of(self.values)
        table = xp.zeros(self.shape, self.values.dtype)
        add_at(table, self.rows, self.values)
        return table


def op(function):
    """Make a differentiable function out of `function(*arrays, **settings) -> (y, pullback)`.

    Positional arguments are arrays or Tensors, keyword arguments are settings. `pullback(dy)` returns one gradient for
    each positional argument: an array of its shape, a RowSparse, None, or a function without arguments that is called
    only if somebody asked for that gradient. Where y is a tuple, the pullback takes one dy for each part, None for a
    part that the loss does not depend on.
    """

    @functools.wraps(function)
    def apply(*inputs, **settings):
        arrays = [x.array if isinstance(x, Tensor) else x for x in inputs]
        if len({xp_of(a) for a in arrays if hasattr(a, "dtype")}) > 1:
            came = ", ".join(type(a).__module__.partition(".")[0] + "." + type(a).__name__ for a in arrays)
            raise TypeError(f"{function.__name__} needs all arrays in one library, got {came}")
        y, pullback = function(*arrays, **settings)
        requires_grad = grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in inputs)
        if not requires_grad:
            return tuple(map(Tensor, y)) if isinstance(y, tuple) else Tensor(y)
        whole = Tensor(y, True, inputs, pullback)
        return tuple(_part(whole, i) for i in range(len(y))) if isinstance(y, tuple) else whole

    return apply


def _part(whole, i):
    """One output of an op with several: its gradient travels to `whole` as a tuple that is None everywhere else."""
    def pullback(dy):
        return (tuple(dy if j == i else None for j in range(len(whole.array))),)
    return Tensor(whole.array[i], True, (whole,), pullback)


def gradients(loss, parameters, dy=None):
    """dloss/dparameter for each parameter, in order; touches nothing, so several threads may share the parameters.

    Shapes: loss scalar, or any shape with `dy` of that shape. Returns an array, a RowSparse, or None for a parameter
    that the loss does not depend on.
    Raises: ValueError where the loss is not a scalar and no dy was given.
    """
    if dy is None:
        if loss.array.size != 1:
            raise ValueError(f"need a scalar loss, or dy of its shape; got a loss of shape {loss.shape}")
        dy = xp_of(loss.array).ones_like(loss.array)
    wanted = {id(p) for p in parameters}
    flowing = {id(loss): dy} if loss.requires_grad else {}     # gradients on their way, by tensor
    arrived = {}
    for tensor in topological_order(loss):
        dy = flowing.pop(id(tensor), None)
        if dy is None:
            continue
        if id(tensor) in wanted:
            arrived[id(tensor)] = dy
        if isinstance(dy, tuple):                   # an op with several outputs
            dxs = tensor.pullback(*dy)
        elif tensor.inputs:
            dxs = tensor.pullback(dy.dense() if isinstance(dy, RowSparse) else dy)
        else:
            continue
        for x, dx in zip(tensor.inputs, dxs, strict=True):
            if isinstance(x, Tensor) and x.requires_grad:
                dx = dx() if callable(dx) else dx
                flowing[id(x)] = add_gradients(flowing[id(x)], dx) if id(x) in flowing else dx
    return [arrived.get(id(p)) for p in parameters]


def topological_order(loss):
    """Every Tensor that `loss` depends on and that requires a gradient, each before all of its inputs."""
    order, seen, stack = [], set(), [(loss, False)]
    while stack:
        tensor, inputs_done = stack.pop()
        if inputs_done:
            order.append(tensor)
        elif id(tensor) not in seen and tensor.requires_grad:
            seen.add(id(tensor))
            stack.append((tensor, True))
            stack.extend((x, False) for x in tensor.inputs if isinstance(x, Tensor))
    return order[::-1]


def add_gradients(a, b):
    """a + b, out of place: what two paths to the same tensor carry."""
    if a is None or b is None:
        return a if b is None else b
    if isinstance(a, tuple):
        return tuple(add_gradients(x, y) for x, y in zip(a, b))
    if isinstance(a, RowSparse) and isinstance(b, RowSparse):
        xp = xp_of(a.values)
        return RowSparse(xp.concatenate([a.rows, b.rows]), xp.concatenate([a.values, b.values]), a.shape)
    return (a.dense() if isinstance(a, RowSparse) else a) + (b.dense() if isinstance(b, RowSparse) else b)


_mode = threading.local()


def grad_enabled():
    """Whether ops of this thread remember their inputs."""
    return getattr(_mode, "enabled", True)


@contextlib.contextmanager
def no_grad():
    """Within this block, and this thread, ops remember nothing: how a teacher is run."""
    before = grad_enabled()
    _mode.enabled = False
    try:
        yield
    finally:
        _mode.enabled = before
