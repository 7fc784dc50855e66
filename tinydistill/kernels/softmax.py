"""Softmax over the last axis, with masked keys.

    y_j = m_j exp(x_j) / sum_k m_k exp(x_k)         m_j = 1 where the key may be seen, else 0

A masked key has probability 0 exactly, whatever stands there (NaN included). A row with no key at all is all 0.
Shapes: scores (..., T); mask broadcasts against scores, True where a key may be seen, or None.
"""

import numpy as np

from tinydistill.backend import xp_of
from tinydistill.kernels.row_sums import row_sums_numpy


def softmax(scores, mask):
    xp = xp_of(scores)
    if mask is None:
        e = xp.exp(scores - scores.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)
    lowered = xp.where(mask, scores, -xp.inf)
    peak = lowered.max(axis=-1, keepdims=True)
    e = xp.exp(lowered - xp.where(peak == -xp.inf, 0, peak))            # exp(-inf) = 0: a masked key
    total = e.sum(axis=-1, keepdims=True)
    return e / xp.where(total == 0, 1, total)


def softmax_pullback(dy, y):
    # dy_j/dx_k = y_j (d_jk - y_k), so dx = y * (dy - <y, dy>)
    return y * (dy - (y * dy).sum(axis=-1, keepdims=True))


def log_softmax(scores, mask):
    """log of softmax(scores, mask), from the scores; 0, not -inf, at masked keys, where nobody may read it."""
    xp = xp_of(scores)
    if mask is None:
        shifted = scores - scores.max(axis=-1, keepdims=True)
        return shifted - xp.log(xp.exp(shifted).sum(axis=-1, keepdims=True))
    lowered = xp.where(mask, scores, -xp.inf)
    peak = lowered.max(axis=-1, keepdims=True)
    shifted = lowered - xp.where(peak == -xp.inf, 0, peak)
    total = xp.exp(shifted).sum(axis=-1, keepdims=True)
    return xp.where(mask, shifted, 0) - xp.where(mask, xp.log(xp.where(total == 0, 1, total)), 0)


def log_softmax_pullback(dy, y, mask):
    # y_j = x_j - log sum exp x, so dx = dy - softmax(x) * sum(dy), over the keys that are seen
    xp = xp_of(y)
    if mask is None:
        return dy - xp.exp(y) * dy.sum(axis=-1, keepdims=True)
    dy = xp.where(mask, dy, 0)
    return dy - xp.where(mask, xp.exp(y), 0) * dy.sum(axis=-1, keepdims=True)


# ---------------------------------------------------------------- fused NumPy: one buffer, row sums as a product

def softmax_numpy(scores, mask):
    """The same in one buffer: it saves four passes that would each store another array of this size."""
    if mask is None:
        e = scores - scores.max(axis=-1, keepdims=True)
    else:
        e = np.where(mask, scores, scores.dtype.type(-np.inf))
        peak = e.max(axis=-1, keepdims=True)
        peak[peak == -np.inf] = 0
        e -= peak
    np.exp(e, out=e)
    total = row_sums_numpy(e)
    if mask is not None:
        total = np.where(total == 0, 1, total)
    e *= (1 / total)[..., None]
    return e


def softmax_pullback_numpy(dy, y):
    dx = y * dy
    total = row_sums_numpy(dx)
    np.subtract(dy, total[..., None], out=dx)
    dx *= y
    return dx
