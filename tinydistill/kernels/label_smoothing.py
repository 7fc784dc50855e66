"""Cross-entropy of logits with smoothed labels, summed over the rows that have one.

    value = sum over rows with label y != ignored of -sum_c r_c log softmax(logits)_c       dvalue/dlogits = softmax - r

    r_y = high        r_pad = 0 where there is a pad, which is no label        r_c = low for every other class c

Shapes: logits (N, V), labels (N,) integers. r sums to 1: high + low (V - 1), or high + low (V - 2) with a pad. Rows
with label `ignored` add nothing and get gradient 0.
"""

import numpy as np

from tinydistill.backend import xp_of
from tinydistill.kernels.row_sums import row_sums_numpy
from tinydistill.kernels.softmax import log_softmax


def smoothed_cross_entropy(logits, labels, ignored, high, low, pad):
    """Returns the sum and its gradient, which comes out of the same pass."""
    xp = xp_of(logits)
    counted = (labels != ignored)[:, None]                              # (N, 1)
    classes = xp.arange(logits.shape[-1])                               # (V,)
    smoothed = xp.where(classes == labels[:, None], high, low).astype(logits.dtype)     # (N, V): r
    if pad is not None:
        smoothed = xp.where(classes == pad, 0, smoothed)
    log_q = log_softmax(xp.where(counted, logits, 0), None)
    value = -xp.where(counted, smoothed * log_q, 0).sum()
    return value, xp.where(counted, xp.exp(log_q) - smoothed, 0)


# ---------------------------------------------------------------- fused NumPy: r is never stored

def smoothed_cross_entropy_numpy(logits, labels, ignored, high, low, pad):
    """The same in one (N, V) buffer: with x shifted by its maximum, Z = sum_c e^(x_c) and s_c = low, but s_pad = 0,

        -sum_c r_c log q_c = log Z - sum_c s_c x_c - (high - low) x_y
    """
    rows = np.flatnonzero(labels != ignored)
    gradient = np.zeros_like(logits)
    each, targets = np.arange(len(rows)), labels[rows]
    shared = np.full(logits.shape[-1], low, logits.dtype)               # (V,): s
    if pad is not None:
        shared[pad] = 0
    shifted = logits[rows]
    shifted -= shifted.max(axis=-1, keepdims=True)
    expected = shifted @ shared + (high - low) * shifted[each, targets]                 # sum_c r_c x_c
    np.exp(shifted, out=shifted)
    total = row_sums_numpy(shifted)
    shifted *= (1 / total)[:, None]
    shifted -= shared
    shifted[each, targets] -= high - low
    gradient[rows] = shifted
    return (np.log(total) - expected).sum(), gradient
