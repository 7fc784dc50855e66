"""Softmax and its logarithm over the last axis, with a key mask.

    y_j  = m_j exp(x_j) / sum_k m_k exp(x_k)            m_j = 1 where the key may be seen, else 0
    dx_j = y_j (dy_j - sum_k y_k dy_k)
    l_j  = x_j - log sum_k exp(x_k)
    dx_j = dl_j - exp(l_j) sum_k dl_k

Shapes: x, y (..., T); mask broadcasts against x, True where a key may be seen.

Traps
  - every y_j depends on every x_k: without the sum the gradient is another one
  - a masked key takes no part in the sum below; to mask what softmax has made is too late
  - exp(x) overflows and log softmax(x) underflows: take off the row's maximum first
  - a row without any key is 0/0. Here it is all 0, with gradient 0; empty "uniform" makes it 1/T, which is what a large
    negative number in the place of every score does
"""

import numpy as np

from tinydistill_reference.conventions import need


def softmax_row(z, temperature=1.0):
    """exp(z_i / T) / sum_j exp(z_j / T), for one row."""
    e = np.exp((z - z.real.max()) / temperature)
    return e / e.sum()


def log_softmax_row(z, temperature=1.0):
    """z_i / T - log sum_j exp(z_j / T), for one row."""
    shifted = (z - z.real.max()) / temperature
    return shifted - np.log(np.exp(shifted).sum())


def rows(x, mask):
    """(the place of a row, the keys that it may see) for every row."""
    try:
        mask = np.broadcast_to(mask, x.shape)
    except ValueError:
        need(False, f"a mask that broadcasts against x: mask {mask.shape}, x {x.shape}")
    return [(row, np.flatnonzero(mask[row])) for row in np.ndindex(x.shape[:-1])]


def softmax(x, mask, *, empty="zero"):
    """y."""
    y = np.zeros_like(x)
    for row, seen in rows(x, mask):
        if len(seen):
            y[row][seen] = softmax_row(x[row][seen])
        elif empty == "uniform":
            y[row] = 1 / x.shape[-1]
    return y


def softmax_gradient(upstream, x, mask, *, empty="zero"):
    """dx_j = y_j (dy_j - sum_k y_k dy_k); a row without a key is constant."""
    dx = np.zeros_like(x)
    for row, seen in rows(x, mask):
        if len(seen):
            y, dy = softmax_row(x[row][seen]), upstream[row][seen]
            dx[row][seen] = y * (dy - (y * dy).sum())
    return {"x": dx}


def log_softmax(x):
    """l."""
    l = np.zeros_like(x)
    for row in np.ndindex(x.shape[:-1]):
        l[row] = log_softmax_row(x[row])
    return l


def log_softmax_gradient(upstream, x):
    """dx_j = dl_j - exp(l_j) sum_k dl_k."""
    dx = np.zeros_like(x)
    for row in np.ndindex(x.shape[:-1]):
        dx[row] = upstream[row] - softmax_row(x[row]) * upstream[row].sum()
    return {"x": dx}
