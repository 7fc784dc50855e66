"""Layer normalisation of a residual sum, over the last axis.

    z = x + r        mu = mean(z)        var = mean((z - mu)^2)        y = gamma * (z - mu) / sqrt(var + eps) + beta

The variance is the biased one and eps stands inside the root, as in BERT. Shapes: x, r (..., D), r may be None;
gamma, beta (D,).
"""

import numpy as np

from tinydistill.backend import xp_of
from tinydistill.kernels.row_sums import row_sums_numpy


def layer_norm(x, residual, gamma, beta, eps):
    """Returns y and what the pullback needs: xhat = (z - mu) / sigma and 1 / sigma."""
    xp = xp_of(x)
    z = x if residual is None else x + residual
    centred = z - z.mean(axis=-1, keepdims=True)
    scale = 1 / xp.sqrt((centred * centred).mean(axis=-1, keepdims=True) + eps)
    xhat = centred * scale
    return gamma * xhat + beta, xhat, scale


def layer_norm_pullback(dy, xhat, scale, gamma):
    """Returns dz, which is both dx and dr, then dgamma and dbeta."""
    # mu and sigma depend on every z: dz = scale * (dxhat - mean(dxhat) - xhat * mean(dxhat * xhat))
    dxhat = dy * gamma
    dz = scale * (dxhat - dxhat.mean(axis=-1, keepdims=True) - xhat * (dxhat * xhat).mean(axis=-1, keepdims=True))
    rows = tuple(range(dy.ndim - 1))
    return dz, (dy * xhat).sum(axis=rows), dy.sum(axis=rows)


# ---------------------------------------------------------------- fused NumPy: means as products, one buffer a result

def layer_norm_numpy(x, residual, gamma, beta, eps):
    """The same sums as products with a constant vector, centred and scaled in place."""
    width = x.shape[-1]
    xhat = x.copy() if residual is None else x + residual
    xhat -= row_sums_numpy(xhat, 1 / width)[..., None]
    scale = 1 / np.sqrt(np.vecdot(xhat, xhat)[..., None] / width + eps)
    xhat *= scale
    y = xhat * gamma
    y += beta
    return y, xhat, scale


def layer_norm_pullback_numpy(dy, xhat, scale, gamma):
    width = dy.shape[-1]
    flat, flat_xhat = dy.reshape(-1, width), xhat.reshape(-1, width)    # (rows, D)
    dbeta = np.ones(len(flat), dy.dtype) @ flat
    dz = flat * flat_xhat
    dgamma = np.ones(len(flat), dy.dtype) @ dz
    mean_product = dz @ (gamma / width)                                 # mean(dxhat * xhat)
    mean = flat @ (gamma / width)                                       # mean(dxhat)
    np.multiply(flat_xhat, -mean_product[:, None], out=dz)
    dz -= mean[:, None]
    dz += flat * gamma
    dz *= scale.reshape(-1, 1)
    return dz.reshape(dy.shape), dgamma, dbeta
