"""NoNorm of a residual sum: the scale and shift of a layer norm, without its mean and variance.

    z = x + r        y = gamma * z + beta

Shapes: x, r, y (..., D), r may be None; gamma, beta (D,).
"""

import numpy as np


def no_norm(x, residual, gamma, beta):
    """Returns y and z, which the pullback needs."""
    z = x if residual is None else x + residual
    return gamma * z + beta, z


def no_norm_pullback(dy, z, gamma):
    """Returns dz, which is both dx and dr, then dgamma and dbeta."""
    rows = tuple(range(dy.ndim - 1))
    return dy * gamma, (dy * z).sum(axis=rows), dy.sum(axis=rows)


# ---------------------------------------------------------------- fused NumPy: row sums as products

def no_norm_numpy(x, residual, gamma, beta):
    """The same, the shift added where the product stands."""
    z = x if residual is None else x + residual
    y = z * gamma
    y += beta
    return y, z


def no_norm_pullback_numpy(dy, z, gamma):
    flat = dy.reshape(-1, dy.shape[-1])                                 # (rows, D)
    ones = np.ones(len(flat), dy.dtype)
    return dy * gamma, ones @ (flat * z.reshape(flat.shape)), ones @ flat
