"""The affine map.

    y = x W^T + b               dx = dy W           dW = sum_n dy_n x_n^T       db = sum_n dy_n         over all rows n

Shapes: x (..., D), weight W (F, D), bias b (F,), y (..., F).

Traps
  - the weight lies as in PyTorch, outputs first; TensorFlow's kernel is its transpose, and a square one fits both ways
  - gradients of weight and bias are sums over all rows: a mean belongs to the loss
"""

import numpy as np

from tinydistill_reference.conventions import need


def linear(x, weight, bias):
    """y."""
    need(x.shape[-1] == weight.shape[1] and bias.shape == weight.shape[:1],
         f"x (..., D), weight (F, D) and bias (F,) whose shapes fit: x {x.shape}, weight {weight.shape}, "
         f"bias {bias.shape}")
    rows = x.reshape(-1, x.shape[-1])                                                   # (N, D)
    return np.array([weight @ row + bias for row in rows]).reshape(*x.shape[:-1], len(bias))


def linear_gradient(upstream, x, weight, bias):
    """dx = dy W, dW = sum_n dy_n x_n^T, db = sum_n dy_n."""
    rows, dy = x.reshape(-1, x.shape[-1]), upstream.reshape(-1, len(bias))              # (N, D), (N, F)
    return {"x": (dy @ weight).reshape(x.shape), "weight": dy.T @ rows, "bias": dy.sum(axis=0)}
