"""Vectors of length 1 over the last axis: what a cosine is made of.

    y = x / n        n = max(|x|_2, eps)        dx = (dy - y <y, dy>) / n, and dy / eps where |x|_2 <= eps

Shapes: x (..., D). A zero vector stays zero.
"""

from tinydistill.backend import xp_of


def unit_norm(x, eps):
    """Returns y and n."""
    xp = xp_of(x)
    norm = xp.sqrt((x * x).sum(axis=-1, keepdims=True))
    norm = xp.where(norm > eps, norm, eps)
    return x / norm, norm


def unit_norm_pullback(dy, y, norm, eps):
    # y_j = x_j / n and dn/dx_k = y_k as long as n is the length itself; a constant eps has no derivative
    xp = xp_of(y)
    along = (y * dy).sum(axis=-1, keepdims=True)
    return (dy - xp.where(norm > eps, y * along, 0)) / norm
