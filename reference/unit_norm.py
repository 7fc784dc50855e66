"""Vectors of length 1, which cosines and normalised distances are made of.

    y = x / n,  n = max(|x|, eps)               dx = (dy - y sum_k y_k dy_k) / n,   dy / eps where |x| <= eps

Shapes: x, y (..., D).

Traps
  - the length depends on every x_k: without the second term the gradient changes the length, which the value forgets
  - eps is the least length, as in PyTorch: not added to it, and not to its square as in TensorFlow
  - a zero vector stays 0, and its gradient is finite
"""

import numpy as np


def length(x, eps):
    """(n, whether it is the length itself) of one row."""
    n = np.sqrt((x * x).sum())
    return (n, True) if n.real > eps else (eps, False)


def unit_norm(x, *, eps=1e-12):
    """y."""
    return np.array([row / length(row, eps)[0] for row in x.reshape(-1, x.shape[-1])]).reshape(x.shape)     # (N, D)


def unit_norm_gradient(upstream, x, *, eps=1e-12):
    """dx = (dy - y sum_k y_k dy_k) / n, dy / eps where |x| <= eps."""
    dx = np.zeros_like(x)
    for place in np.ndindex(x.shape[:-1]):
        n, own = length(x[place], eps)
        y, dy = x[place] / n, upstream[place]
        dx[place] = (dy - y * (y * dy).sum() * own) / n
    return {"x": dx}
