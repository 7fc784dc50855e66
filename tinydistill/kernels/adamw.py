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

CHUNK = 1 << 16                                     # elements: seven passes over a chunk read memory once


def adamw_numpy(parameter, gradient, m, v, t, lr, beta1, beta2, eps, decay):
    """The same in chunks that stay in cache, with one temporary of a chunk's size."""
    if not all(a.flags.c_contiguous for a in (parameter, m, v)):        # flat, they would be copies: updates lost
        return adamw(parameter, gradient, m, v, t, lr, beta1, beta2, eps, decay)
    flat = [a.reshape(-1) for a in (parameter, gradient, m, v)]
    work = np.empty(min(CHUNK, parameter.size), parameter.dtype)
    for first in range(0, parameter.size, CHUNK):
        p, g, m1, v1 = (a[first:first + CHUNK] for a in flat)
        u = work[:len(p)]
        np.subtract(g, m1, out=u)
        u *= 1 - beta1
        m1 += u
        np.multiply(g, g, out=u)
        u -= v1
        u *= 1 - beta2
        v1 += u
        np.multiply(v1, 1 / (1 - beta2 ** t), out=u)
        np.sqrt(u, out=u)
        u += eps
        np.divide(m1, u, out=u)
        u *= lr / (1 - beta1 ** t)
        p *= 1 - lr * decay
        p -= u
