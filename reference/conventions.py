"""What a formula on paper leaves open for a batch: which rows count and what their sum is divided by, as weights.

    L = sum_n w_n l_n           l_n the loss of row n (a token, or a sequence), w_n 0 where the row does not count

    rows        "real": those of the mask · "all" · "labelled": those with a label other than -100
    divisor     "sequence": each sequence by its own count, then the batch by B · "row": the batch by all rows that
                count · "element": by those times the entries of a row · "none": the sum
    epsilon     what published code adds to the divisor

The other choices (`temperature_squared`, `constant`, `keys`) stand in the equations that have them.
"""

import numpy as np

IGNORED = -100
CHOICES = {"rows": ("real", "all", "labelled"), "divisor": ("sequence", "row", "element", "none"),
           "keys": ("real", "all"), "constant": ("kl", "cross-entropy"), "temperature_squared": (True, False)}


def weights(mask, labels=None, *, rows="real", divisor="row", entries=1, epsilon=0.0):
    """w, in the shape of mask (B, T) or (B,)."""
    counted = {"real": lambda: mask, "all": lambda: np.ones_like(mask), "labelled": lambda: labels != IGNORED}[rows]()
    if divisor == "sequence":
        return counted / np.maximum(1, counted.sum(axis=1, keepdims=True)) / (len(counted) + epsilon)
    N = max(1, counted.sum())                       # no row counts: 0 / 1, not 0 / 0
    return counted / ({"row": N, "element": N * entries, "none": 1}[divisor] + epsilon)


def need(fits, words):
    """Refuse what cannot be computed."""
    if not fits:
        raise ValueError(f"need {words}")
