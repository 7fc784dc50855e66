"""Paying more attention to attention (Zagoruyko and Komodakis 2017): activation-based attention transfer, as printed.

    Q    = vec(F(A)),   F(A) = sum_i |A_i|^2                                 over the channels i of an activation A
    L_AT = beta/2 sum_j || Q^S_j / ||Q^S_j||_2 - Q^T_j / ||Q^T_j||_2 ||_2    over pairs j of layers

Here A is the output of a Transformer's layer, (T, D): D channels, T positions of which the real ones make the map.
beta/2 is a weight and is left out; the batch is a mean.

Traps
  - the norm is not squared, although published code takes the mean of the squares
  - sum and mean over channels give the same map, because its length is divided out: so the widths may differ
  - an unsquared norm has no derivative where the two maps are equal
  - padded positions belong neither into the map nor into its length
"""

import numpy as np


def attention_map(activation):
    """Q / ||Q||_2. Shapes: (T, D) -> (T,)."""
    q = np.array([sum(a * a for a in row) for row in activation])
    return q / np.sqrt(sum(q * q))


def differences(student, teacher, mask):
    """Q^S / ||Q^S|| - Q^T / ||Q^T|| of every sequence, over its real positions."""
    return [attention_map(s[real]) - attention_map(t[real]) for s, t, real in zip(student, teacher, mask)]


def attention_transfer(student, teacher, mask):
    """L_AT of one pair of layers without beta/2, the mean over the batch. Shapes: (B, T, D), (B, T, D'), (B, T)."""
    return sum(np.sqrt(sum(d * d)) for d in differences(student, teacher, mask)) / len(mask)


def attention_transfer_official(student, teacher, mask):
    """The mean of the squares over all positions: published code, for a mask that is True everywhere."""
    return sum(sum(d * d) for d in differences(student, teacher, mask)) / mask.sum()
