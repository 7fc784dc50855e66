"""One step of Adam as BERT was trained with (google-research/bert optimization.py: AdamWeightDecayOptimizer), in place.

    m = beta1 m + (1 - beta1) g                 v = beta2 v + (1 - beta2) g^2
    parameter = parameter - lr * (m / (sqrt(v) + eps) + decay * parameter)

AdamW without its bias correction: m and v start at 0 and are taken as they are, so that the first step is
(1 - beta1) / sqrt(1 - beta2) times AdamW's, 3.16 times for 0.9 and 0.999. Shapes: parameter, gradient, m, v the same.
"""

import numpy as np

from tinydistill.backend import xp_of
from tinydistill.kernels.adamw import CHUNK, _chunks, _direction, _in_order, _move


def adam_weight_decay(parameter, gradient, m, v, lr, beta1, beta2, eps, decay):
    m += (1 - beta1) * (gradient - m)
    v += (1 - beta2) * (gradient * gradient - v)
    parameter -= lr * (m / (xp_of(v).sqrt(v) + eps) + decay * parameter)


# ---------------------------------------------------------------- fused NumPy

def adam_weight_decay_numpy(parameter, gradient, m, v, lr, beta1, beta2, eps, decay):
    """The same in chunks that stay in cache, with one temporary of a chunk's size."""
    if not _in_order(parameter, m, v):
        return adam_weight_decay(parameter, gradient, m, v, lr, beta1, beta2, eps, decay)
    work = np.empty(min(CHUNK, parameter.size), parameter.dtype)
    for p, g, m1, v1 in _chunks(parameter, gradient, m, v):
        u = work[:len(p)]
        _move(m1, v1, g, u, beta1, beta2)
        _direction(m1, v1, u, lr, 1, eps)
        p *= 1 - lr * decay
        p -= u
