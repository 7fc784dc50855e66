"""Random numbers that are the same on every machine and in every version of NumPy.

The bits of Philox are a published function (Salmon et al. 2011), and `random_raw` hands them out; what NumPy makes of
them (`Generator.normal`) may change. So the rest is here, and uses additions and multiplications only.
"""

import zlib

import numpy as np


class Numbers:
    """A source of random numbers, named by a text. All floats are exact in float32, so that everyone sees the same."""

    def __init__(self, name, seed=0):
        self.bits = np.random.Philox(key=np.array([zlib.crc32(name.encode()), seed], np.uint64))

    def uniform(self, *shape):
        """In [0, 1): the upper 53 of 64 bits."""
        drawn = self.bits.random_raw(int(np.prod(shape))) >> np.uint64(11)
        return drawn.reshape(shape) * 2.0 ** -53

    def normal(self, *shape, scale=1.0, offset=0.0):
        """Nearly normal: the sum of twelve uniforms less six; no tails, no logarithm."""
        return exact(self.uniform(12, *shape).sum(axis=0) * scale - 6.0 * scale + offset)

    def integers(self, low, high, *shape):
        """low <= i < high."""
        return (low + np.floor(self.uniform(*shape) * (high - low))).astype(np.int64)

    def permutation(self, n):
        return np.argsort(self.uniform(n), kind="stable")


def exact(x):
    """The nearest numbers that float32 has, as float64."""
    return np.asarray(x, np.float64).astype(np.float32).astype(np.float64)


def lengths_to_mask(lengths, T):
    """(B, T), True at the first lengths[b] positions."""
    return np.arange(T) < np.asarray(lengths)[:, None]


def poisoned(x, mask):
    """x with its padding made large and odd, never 0. Shapes: x (B, T, ...) with rows, (B, A, T, ...) with heads."""
    rows = mask if x.shape[:2] == mask.shape and x.ndim < 4 else np.broadcast_to(mask[:, None], x.shape[:3])
    rows = rows.reshape(rows.shape + (1,) * (x.ndim - rows.ndim))
    return exact(np.where(rows, x, 11.0 * x + 3.7))


def poisoned_scores(x, mask):
    """Scores (B, A, T, T) with padded rows and padded keys made large."""
    return exact(np.where(mask[:, None, :, None] & mask[:, None, None, :], x, 11.0 * x + 3.7))
