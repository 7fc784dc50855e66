"""Arithmetic element by element, with broadcasting, and functions of one number.

    a + b           da = dy             db = dy
    a - b           da = dy             db = -dy
    a b             da = dy b           db = dy a
    a / b           da = dy / b         db = -dy a / b^2
                    each summed over the axes along which a, or b, was repeated
    -x              dx = -dy
    |x|             dx = dy sign(x)                         sign(0) = 0
    exp x           dx = dy exp(x)
    log x           dx = dy / x
    sqrt x          dx = dy / (2 sqrt x)
    tanh x          dx = dy (1 - tanh^2 x)
    max(x, 0)       dx = dy where x > 0, else 0
    relu6           dx = dy where 0 < x < 6, else 0         min(max(x, 0), 6)
    masked          dx = dy where the mask is True, else 0  x there, a constant elsewhere

Traps
  - what was repeated gets the sum of all its gradients: neither their mean nor the first of them
  - a relu has no derivative at its kinks; here it is 0, as in PyTorch and TensorFlow
  - x times a mask is no masking: 0 times NaN is NaN
"""

import numpy as np

from tinydistill_reference.conventions import need


def fitted(a, b):
    """Refuse shapes that do not broadcast."""
    fits = all(m == n or 1 in (m, n) for m, n in zip(a.shape[::-1], b.shape[::-1]))
    need(fits, f"two shapes that broadcast: a {a.shape}, b {b.shape}")
    return a, b


def summed(dy, x):
    """dy summed over the axes along which x was repeated."""
    while dy.ndim > x.ndim:
        dy = dy.sum(axis=0)
    for axis, size in enumerate(x.shape):
        if size == 1:
            dy = dy.sum(axis=axis, keepdims=True)
    return dy


def add(a, b):
    a, b = fitted(a, b)
    return a + b


def add_gradient(upstream, a, b):
    """da = dy, db = dy."""
    return {"a": summed(upstream, a), "b": summed(upstream, b)}


def subtract(a, b):
    a, b = fitted(a, b)
    return a - b


def subtract_gradient(upstream, a, b):
    """da = dy, db = -dy."""
    return {"a": summed(upstream, a), "b": -summed(upstream, b)}


def multiply(a, b):
    a, b = fitted(a, b)
    return a * b


def multiply_gradient(upstream, a, b):
    """da = dy b, db = dy a."""
    return {"a": summed(upstream * b, a), "b": summed(upstream * a, b)}


def divide(a, b):
    a, b = fitted(a, b)
    return a / b


def divide_gradient(upstream, a, b):
    """da = dy / b, db = -dy a / b^2."""
    return {"a": summed(upstream / b, a), "b": -summed(upstream * a / b ** 2, b)}


def negative(x):
    return -x


def negative_gradient(upstream, x):
    """dx = -dy."""
    return {"x": -upstream}


def absolute(x):
    return x * np.sign(x.real)


def absolute_gradient(upstream, x):
    """dx = dy sign(x)."""
    return {"x": upstream * np.sign(x)}


def exp(x):
    return np.exp(x)


def exp_gradient(upstream, x):
    """dx = dy exp(x)."""
    return {"x": upstream * np.exp(x)}


def log(x):
    return np.log(x)


def log_gradient(upstream, x):
    """dx = dy / x."""
    return {"x": upstream / x}


def sqrt(x):
    return np.sqrt(x)


def sqrt_gradient(upstream, x):
    """dx = dy / (2 sqrt x)."""
    return {"x": upstream / (2 * np.sqrt(x))}


def tanh(x):
    return np.tanh(x)


def tanh_gradient(upstream, x):
    """dx = dy (1 - tanh^2 x)."""
    return {"x": upstream * (1 - np.tanh(x) ** 2)}


def relu(x):
    """max(x, 0)."""
    return np.where(x.real > 0, x, 0)


def relu_gradient(upstream, x):
    """dx = dy where x > 0."""
    return {"x": upstream * (x > 0)}


def relu6(x):
    """min(max(x, 0), 6)."""
    return np.where(x.real > 0, np.where(x.real < 6, x, 6), 0)


def relu6_gradient(upstream, x):
    """dx = dy where 0 < x < 6."""
    return {"x": upstream * ((x > 0) & (x < 6))}


def masked(x, mask, *, fill=0.0):
    """x where the mask is True, else fill. The mask broadcasts against x."""
    fitted(x, mask)
    return np.where(mask, x, fill)


def masked_gradient(upstream, x, mask, *, fill=0.0):
    """dx = dy where the mask is True."""
    return {"x": np.where(mask, upstream, 0)}
