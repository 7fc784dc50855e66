"""Arithmetic, element by element, with NumPy's broadcasting: what was broadcast in the forward is summed in the pullback."""

from tinydistill.backend import xp_of
from tinydistill.tensor import op


def unbroadcast(dy, x):
    """Sum dy over the axes along which x was repeated; None for a Python number, which has no gradient."""
    if not hasattr(x, "shape"):
        return None
    dy = dy.sum(axis=tuple(range(dy.ndim - x.ndim)))
    repeated = tuple(i for i, size in enumerate(x.shape) if size == 1 != dy.shape[i])
    return dy.sum(axis=repeated, keepdims=True) if repeated else dy


@op
def add(a, b):
    return a + b, lambda dy: (unbroadcast(dy, a), unbroadcast(dy, b))


@op
def subtract(a, b):
    return a - b, lambda dy: (unbroadcast(dy, a), unbroadcast(-dy, b))


@op
def multiply(a, b):
    return a * b, lambda dy: (lambda: unbroadcast(dy * b, a), lambda: unbroadcast(dy * a, b))


@op
def divide(a, b):
    y = a / b
    return y, lambda dy: (lambda: unbroadcast(dy / b, a), lambda: unbroadcast(-dy * y / b, b))


@op
def negative(x):
    return -x, lambda dy: (-dy,)


@op
def absolute(x):
    xp = xp_of(x)
    return xp.abs(x), lambda dy: (dy * xp.sign(x),)                     # 0 at 0


@op
def exp(x):
    y = xp_of(x).exp(x)
    return y, lambda dy: (dy * y,)


@op
def log(x):
    return xp_of(x).log(x), lambda dy: (dy / x,)


@op
def sqrt(x):
    y = xp_of(x).sqrt(x)
    return y, lambda dy: (dy / (2 * y),)


@op
def tanh(x):
    y = xp_of(x).tanh(x)
    return y, lambda dy: (dy * (1 - y * y),)


@op
def relu(x):
    return xp_of(x).maximum(x, 0), lambda dy: (dy * (x > 0),)


@op
def relu6(x):
    """min(max(x, 0), 6): a relu whose outputs eight bits can hold."""
    return xp_of(x).clip(x, 0, 6), lambda dy: (dy * ((x > 0) & (x < 6)),)


@op
def masked(x, *, mask, fill=0):
    """x where the mask is True, `fill` elsewhere: a product would keep a NaN. The mask broadcasts against x."""
    xp = xp_of(x)
    return xp.where(mask, x, fill), lambda dy: (xp.where(mask, dy, 0),)
