"""One step of Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2), in place.

    m = beta1 m + (1 - beta1) g                 v = beta2 v + (1 - beta2) g^2
    parameter = parameter - lr * (mhat / (sqrt(vhat) + eps) + decay * parameter)
    mhat = m / (1 - beta1^t), vhat = v / (1 - beta2^t), t = 1 at the first step

lr is this step's learning rate. Shapes: parameter, gradient, m, v the same.
"""

import numpy as np

from tinydistill.backend import xp_of


def adamw(parameter, gradient, m, v, t, lr, beta1, beta2, eps, decay):
    m += (1 - beta1) * (gradient - m)
    v += (1 - beta2) * (gradient * gradient - v)
    mhat, vhat = m / (1 - beta1 ** t), v / (1 - beta2 ** t)
    parameter -= lr * (mhat / (xp_of(v).sqrt(vhat) + eps) + decay * parameter)


# ---------------------------------------------------------------- fused NumPy

CHUNK = 1 << 16                                     # elements: the passes over a chunk read memory once


def adamw_numpy(parameter, gradient, m, v, t, lr, beta1, beta2, eps, decay):
    """The same in chunks that stay in cache, with one temporary of a chunk's size."""
    if not _in_order(parameter, m, v):
        return adamw(parameter, gradient, m, v, t, lr, beta1, beta2, eps, decay)
    work = np.empty(min(CHUNK, parameter.size), parameter.dtype)
    for p, g, m1, v1 in _chunks(parameter, gradient, m, v):
        u = work[:len(p)]
        _move(m1, v1, g, u, beta1, beta2)
        _direction(m1, v1, u, lr / (1 - beta1 ** t), 1 / (1 - beta2 ** t), eps)
        p *= 1 - lr * decay
        p -= u


# ---------------------------------------------------------------- what the fused optimisers share

def _in_order(*arrays):
    """Whether arrays can be updated flat: others would be copied, and the updates lost."""
    return all(a.flags.c_contiguous for a in arrays)


def _chunks(*arrays, size=CHUNK):
    """The same `size` elements of every array, time after time until all were there; as views."""
    flat = [a.reshape(-1) for a in arrays]
    return ([a[first:first + size] for a in flat] for first in range(0, len(flat[0]), size))


def _move(m, v, gradient, u, beta1, beta2):
    """m and v after another gradient, in place; u is overwritten."""
    np.subtract(gradient, m, out=u)
    u *= 1 - beta1
    m += u
    np.multiply(gradient, gradient, out=u)
    u -= v
    u *= 1 - beta2
    v += u


def _direction(m, v, u, m_factor, v_factor, eps):
    """u = m_factor m / (sqrt(v_factor v) + eps), in place."""
    np.multiply(v, v_factor, out=u)
    np.sqrt(u, out=u)
    u += eps
    np.divide(m, u, out=u)
    u *= m_factor
