"""GELU in its tanh form, which is another function than that of `kernels/gelu.py`.

    gelu_new(x) = x (1 + tanh u) / 2                u = sqrt(2 / pi) (x + c x^3)                c = 0.044715
    gelu_new'(x) = (1 + tanh u) / 2 + x / 2 (1 - tanh^2 u) sqrt(2 / pi) (1 + 3 c x^2)
"""

import numpy as np

from tinydistill.backend import xp_of

ROOT = (2 / np.pi) ** 0.5
ROOT_C = ROOT * 0.044715
BLOCK = 1 << 16                                     # elements: what a chain of passes keeps in cache


def gelu_new(x):
    """gelu_new(x) and its derivative, both of x's shape.

    >>> from tinydistill.kernels.gelu import bias_gelu
    >>> x = np.linspace(-5, 5, 10001)
    >>> round(float(np.abs(gelu_new(x)[0] - bias_gelu(x, 0)[0]).max()), 6)         # how far apart the two are
    0.000473
    """
    square = x * x
    t = xp_of(x).tanh(x * (ROOT + ROOT_C * square))
    return 0.5 * x * (1 + t), 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * (ROOT + 3 * ROOT_C * square)


# ---------------------------------------------------------------- fused NumPy

def gelu_new_numpy(x):
    """The same block by block, so that every pass but two stays in cache."""
    flat = x.reshape(-1)
    y, derivative = np.empty_like(flat), np.empty_like(flat)
    for first in range(0, len(flat), BLOCK):
        block = slice(first, first + BLOCK)
        h, t, slope = flat[block], y[block], derivative[block]
        np.multiply(h, h, out=slope)
        np.multiply(slope, ROOT_C, out=t)
        t += ROOT
        t *= h
        np.tanh(t, out=t)
        slope *= 3 * ROOT_C
        slope += ROOT
        slope *= h
        slope *= 1 - t * t
        t += 1
        slope += t
        slope *= 0.5
        t *= h
        t *= 0.5
    return y.reshape(x.shape), derivative.reshape(x.shape)
