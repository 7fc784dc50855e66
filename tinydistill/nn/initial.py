"""How initial weights are drawn: numbers of unit scale for a matrix of a shape (outputs, inputs)."""

import numpy as np


def normal(random, shape):
    """N(0, 1)."""
    return random.standard_normal(shape)


def truncated_normal(random, shape):
    """N(0, 1) without what lies beyond 2, which is drawn anew: TensorFlow's truncated normal, of deviation 0.88.

    >>> drawn = truncated_normal(np.random.default_rng(0), (500, 200))
    >>> bool(abs(drawn).max() <= 2), round(float(drawn.std()), 2)
    (True, 0.88)
    """
    drawn = random.standard_normal(shape)
    while (beyond := np.abs(drawn) > 2).any():
        drawn[beyond] = random.standard_normal(beyond.sum())
    return drawn


def uniform(random, shape):
    """U(-1, 1) over the root of the number of inputs: what torch.nn.Linear begins with."""
    return random.uniform(-1, 1, shape) / shape[-1] ** 0.5
