"""Tokens beside their neighbours: how they have been got wrong."""

import numpy as np

from tinydistill_reference.mistakes import computes, derives, ignores_upstream
from tinydistill_reference.trigram import shifted


def _side_by_side(left=lambda x: shifted(x, 1), right=lambda x: shifted(x, -1)):
    return lambda x: np.concatenate([left(x), x, right(x)], axis=2)


def _flat(by):
    """The neighbour in the row of all sequences."""
    return lambda x: shifted(x.reshape(1, -1, x.shape[2]), by).reshape(x.shape)


def _at_the_edge(by):
    """A token without a neighbour is its own."""
    return lambda x: x[:, np.clip(np.arange(x.shape[1]) + by, 0, x.shape[1] - 1)]


E = "trigram"
TRAPS = (
    computes(E, "previous_first", "[x_{t-1}, x_t, x_{t+1}], the order of reading",
             "weights of MobileBERT read each neighbour for the other", "constructed",
             _side_by_side(lambda x: shifted(x, -1), lambda x: shifted(x, 1))),
    computes(E, "around", "np.roll: the first token is the last one's neighbour", "the ends of a text see each other",
             "constructed", _side_by_side(lambda x: np.roll(x, -1, axis=1), lambda x: np.roll(x, 1, axis=1))),
    computes(E, "across", "neighbours in the row of all sequences", "texts of a batch see each other", "constructed",
             _side_by_side(_flat(1), _flat(-1))),
    computes(E, "repeated_edge", "a token without a neighbour is its own", "the ends of a text count twice",
             "constructed", _side_by_side(_at_the_edge(1), _at_the_edge(-1))),
    derives(E, "bwd_this_only", "neighbours count as constant", "tokens learn from themselves only", "constructed",
            lambda g, i, a, u: {"dx": np.split(u, 3, axis=2)[1]}),
    derives(E, "bwd_same_shift", "dy is shifted the way x was", "neighbours learn each other's gradients",
            "constructed", lambda g, i, a, u: {
                "dx": sum(shifted(part, by) for part, by in zip(np.split(u, 3, axis=2), (1, 0, -1)))}),
    ignores_upstream(E, "ignores_upstream", "a backward that forgets the gradient from above",
                     "weights of the loss have no effect", "constructed"),
)
