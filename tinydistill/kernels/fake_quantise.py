"""Fake quantisation: every number is rounded to the nearest of a few levels, and stays a floating number.

    symmetric   M = 2^(bits - 1) - 1    s = M / r          y = clamp(round(x s), -M, M) / s
    between     n = 2^bits - 1          d = (h - l) / n    y = l + d clamp(round((x - l) / d), 0, n)

r is the largest magnitude that has a level, l and h the lowest and the highest number. Halves are rounded to the even
level. r, h - l are held above 1e-20: of a tensor of zeros, or of one number, every entry is a level. Shapes: x any;
r, l, h broadcast against it.
"""

import numpy as np

from tinydistill.backend import xp_of

SMALLEST = 1e-20


def largest_magnitude(x, rows):
    """max |x| over the last axis, then over the rows that `rows` (broadcasting against x.shape[:-1]) has; None: all."""
    xp = xp_of(x)
    if x.size == 0:
        return xp.zeros((), x.dtype)
    of_rows = xp.abs(x).max(axis=-1)
    return (of_rows if rows is None else xp.where(rows, of_rows, 0)).max()


def levels(x, largest, bits):
    """clamp(round(x s), -M, M): the level of each number, -M to M, in the dtype of x."""
    xp, M = xp_of(x), 2 ** (bits - 1) - 1
    return xp.clip(xp.rint(x * (M / xp.maximum(largest, SMALLEST))), -M, M)


def fake_quantise(x, largest, bits):
    """Symmetric."""
    xp, M = xp_of(x), 2 ** (bits - 1) - 1
    return levels(x, largest, bits) / (M / xp.maximum(largest, SMALLEST))


def levels_between(x, lowest, highest, bits):
    """clamp(round((x - l) / d), 0, n): the level of each number, 0 to n, in the dtype of x."""
    xp, n = xp_of(x), 2 ** bits - 1
    return xp.clip(xp.rint((x - lowest) / (xp.maximum(highest - lowest, SMALLEST) / n)), 0, n)


def fake_quantise_between(x, lowest, highest, bits):
    """Between two numbers."""
    xp, n = xp_of(x), 2 ** bits - 1
    return lowest + xp.maximum(highest - lowest, SMALLEST) / n * levels_between(x, lowest, highest, bits)


# ---------------------------------------------------------------- fused NumPy: one buffer, no array of magnitudes

def largest_magnitude_numpy(x, rows):
    if x.size == 0:
        return np.zeros((), x.dtype)
    if rows is None:
        return np.maximum(x.max(), -x.min())
    return np.where(rows, np.maximum(x.max(axis=-1), -x.min(axis=-1)), 0).max()


def levels_numpy(x, largest, bits):
    M = 2 ** (bits - 1) - 1
    y = x * (M / np.maximum(largest, SMALLEST))
    np.rint(y, out=y)
    return np.clip(y, -M, M, out=y)


def fake_quantise_numpy(x, largest, bits):
    y = levels_numpy(x, largest, bits)
    y /= (2 ** (bits - 1) - 1) / np.maximum(largest, SMALLEST)
    return y
