"""Every token beside its neighbours (Sun, Yu, Song, Liu, Yang and Zhou 2020, MobileBERT, embedding factorisation).

    y_t  = [x_{t+1}, x_t, x_{t-1}]                          0 outside the sequence
    dx_t = dy_{t-1}[next] + dy_t[this] + dy_{t+1}[previous]

Shapes: x (B, T, E), y (B, T, 3E), of which the first E numbers are the next token's.

Traps
  - the next token comes first: weights of MobileBERT want it so
  - the last token of one sequence is no neighbour of the first of another, nor of its own first
"""

import numpy as np

from tinydistill_reference.conventions import need


def shifted(x, by):
    """x_{t + by}, 0 outside the sequence."""
    found = np.zeros_like(x)
    for t in range(x.shape[1]):
        if 0 <= t + by < x.shape[1]:
            found[:, t] = x[:, t + by]
    return found


def trigram(x):
    """y."""
    need(x.ndim == 3, f"x of shape (B, T, E), got {x.shape}")
    return np.concatenate([shifted(x, 1), x, shifted(x, -1)], axis=2)


def trigram_gradient(upstream, x):
    """dx_t = dy_{t-1}[next] + dy_t[this] + dy_{t+1}[previous]."""
    following, this, previous = np.split(upstream, 3, axis=2)
    return {"x": shifted(following, -1) + this + shifted(previous, 1)}
