"""Cross-entropy of logits with class labels, summed over the rows that have one.

    value = sum over rows with label y != ignored of -log softmax(logits)_y           dvalue/dlogits = softmax - onehot(y)

Shapes: logits (N, V), labels (N,) integers. Rows with label `ignored` add nothing and get gradient 0.
"""

import numpy as np

from tinydistill.backend import xp_of
from tinydistill.kernels.row_sums import row_sums_numpy
from tinydistill.kernels.softmax import log_softmax


def cross_entropy(logits, labels, ignored):
    """Returns the sum and its gradient, which comes out of the same pass."""
    xp = xp_of(logits)
    counted = (labels != ignored)[:, None]                              # (N, 1)
    onehot = counted & (xp.arange(logits.shape[-1]) == labels[:, None])                 # (N, V)
    log_q = log_softmax(xp.where(counted, logits, 0), None)
    value = -xp.where(onehot, log_q, 0).sum()
    return value, xp.where(counted, xp.exp(log_q) - onehot, 0)


# ---------------------------------------------------------------- fused NumPy: the shifted logits become the gradient

def cross_entropy_numpy(logits, labels, ignored):
    """The same in one (N, V) buffer: -log q_y = log sum_k e^(x_k) - x_y, then e^x / sum is scaled where it stands."""
    rows = np.flatnonzero(labels != ignored)
    gradient = np.zeros_like(logits) if len(rows) < len(labels) else np.empty_like(logits)
    x = logits if len(rows) == len(labels) else logits[rows]
    shifted = x - x.max(axis=-1, keepdims=True)
    chosen = shifted[np.arange(len(rows)), labels[rows]]
    np.exp(shifted, out=shifted)
    total = row_sums_numpy(shifted)
    shifted *= (1 / total)[:, None]
    shifted[np.arange(len(rows)), labels[rows]] -= 1
    gradient[rows] = shifted
    return (np.log(total) - chosen).sum(), gradient
