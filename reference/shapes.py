"""Sums over an axis, products of matrices, and moves that leave every number as it is.

    sum             y = sum_j x_j                   dx_j = dy
    mean            y = 1/n sum_j x_j               dx_j = dy / n               n numbers are summed for each y
    matmul          y = a b                         da = dy b^T, db = a^T dy    summed over axes that were repeated
    concatenate     y = [first second third]        each its part of dy
    take            y_n = x[i_n]                    dx[v] = sum over all n with i_n = v of dy_n
    transpose       y = x with its axes in another order        dx = dy with them back in place

Traps
  - a sum hands dy to all that was summed, a mean divides it by n: the numbers of that sum, not of the array
  - a row that is taken several times gets the sum of its gradients
  - the axes of dy move by the inverse order, which is another one as soon as three of them change places
  - a reshape puts numbers into the right shape and the wrong places
"""

import numpy as np

from tinydistill_reference.conventions import need
from tinydistill_reference.elementary import summed


def sum_over(x, *, axis=None, keepdims=False):
    """y, over all axes where none is named."""
    need(axis is None or -x.ndim <= axis < x.ndim, f"an axis of x {x.shape}, got {axis}")
    return x.sum(axis=axis, keepdims=keepdims)


def sum_over_gradient(upstream, x, *, axis=None, keepdims=False):
    """dx_j = dy."""
    dy = upstream if axis is None or keepdims else np.expand_dims(upstream, axis)
    return {"x": np.zeros_like(x) + dy}


def mean_over(x, *, axis=None, keepdims=False):
    """y."""
    return sum_over(x, axis=axis, keepdims=keepdims) / (x.size if axis is None else x.shape[axis])


def mean_over_gradient(upstream, x, *, axis=None, keepdims=False):
    """dx_j = dy / n."""
    n = x.size if axis is None else x.shape[axis]
    return {"x": sum_over_gradient(upstream, x, axis=axis, keepdims=keepdims)["x"] / n}


def matmul(a, b):
    """y. Shapes: a (..., M, K), b (..., K, N); the axes before them broadcast."""
    need(a.ndim > 1 and b.ndim > 1 and a.shape[-1] == b.shape[-2],
         f"a (..., M, K) and b (..., K, N) of two axes or more whose shapes fit: a {a.shape}, b {b.shape}")
    return a @ b


def matmul_gradient(upstream, a, b):
    """da = dy b^T, db = a^T dy."""
    return {"a": summed(upstream @ b.swapaxes(-1, -2), a), "b": summed(a.swapaxes(-1, -2) @ upstream, b)}


def concatenate(first, second, third, *, axis=0):
    """y."""
    def others(x):
        return x.shape[:axis % x.ndim] + x.shape[axis % x.ndim + 1:]
    need(others(first) == others(second) == others(third),
         f"shapes that are the same but for axis {axis}: {first.shape}, {second.shape}, {third.shape}")
    return np.concatenate([first, second, third], axis=axis)


def concatenate_gradient(upstream, first, second, third, *, axis=0):
    """Each its part of dy."""
    ends = np.cumsum([first.shape[axis], second.shape[axis]])
    return dict(zip(("first", "second", "third"), np.split(upstream, ends, axis=axis)))


def take(x, index):
    """y_n = x[i_n]; -1 is the last row. Shapes: x (V, D), index (...,), y (..., D)."""
    need(((index >= -len(x)) & (index < len(x))).all(), f"an index from {-len(x)} to {len(x) - 1}, got {index}")
    return np.array([x[i] for i in index.ravel()]).reshape(*index.shape, *x.shape[1:])


def take_gradient(upstream, x, index):
    """dx[v] = sum of dy_n over all n with i_n = v."""
    dx = np.zeros_like(x)
    for n in np.ndindex(index.shape):
        dx[index[n]] += upstream[n]
    return {"x": dx}


def transpose(x, axes):
    """Axis i of y is axis axes_i of x."""
    need(sorted(axes) == list(range(x.ndim)), f"each of the {x.ndim} axes of x once, got {axes}")
    return x.transpose(axes)


def transpose_gradient(upstream, x, axes):
    """Axis axes_i of dx is axis i of dy."""
    return {"x": upstream.transpose(np.argsort(axes))}
