"""Paying more attention to attention (Zagoruyko and Komodakis 2017): activation-based attention transfer, as printed.

    Q    = vec(F(A)),   F(A) = sum_i |A_i|^2                                 over the channels i of an activation A
    L_AT = beta/2 sum_j || Q^S_j / ||Q^S_j||_2 - Q^T_j / ||Q^T_j||_2 ||_2    over pairs j of layers

    v = Q^S / |Q^S|,  d = v - Q^T / |Q^T|,  e = d / |d|:        dL/dQ^S = w (e - v <v, e>) / |Q^S|,   dQ_t/dA_t = 2 A_t

Here A is the output of a Transformer's layer, (T, D): D channels, T positions of which the real ones make the map.
beta/2 is a weight and is left out; the batch is a mean.

Traps
  - the norm is not squared, although published code takes the mean of the squares
  - sum and mean over channels give the same map, because its length is divided out: so the widths may differ
  - an unsquared norm has no derivative where the two maps are equal: it is taken to be 0
  - padded positions belong neither into the map nor into its length
"""

import numpy as np

from tinydistill_reference.conventions import need, weights
from tinydistill_reference.distilbert import direction


def attention_map(activation):
    """(Q / ||Q||_2, ||Q||_2); 0 of an activation that is 0. Shapes: (T, D) -> (T,)."""
    return direction((activation * activation).sum(axis=1))


def differences(student_hidden, teacher_hidden, mask, rows):
    """[(b, the positions of the map, v, |Q^S|, d)] of every sequence."""
    need(student_hidden.shape[:2] == teacher_hidden.shape[:2] == mask.shape,
         f"the same shape (B, T): student {student_hidden.shape}, teacher {teacher_hidden.shape}, mask {mask.shape}")
    need(mask.any(axis=1).all(), "at least one real token in every sequence of the mask")
    found = []
    for b in range(len(mask)):
        seen = np.flatnonzero(mask[b] | (rows == "all"))
        v, length = attention_map(student_hidden[b, seen])
        found.append((b, seen, v, length, v - attention_map(teacher_hidden[b, seen])[0]))
    return found


def through_map(activation, v, length, dv):
    """dL/dA = 2 A dQ, dQ = (dv - v <v, dv>) / |Q|; 0 of an activation that is 0."""
    return 2 * activation * ((dv - v * (v * dv).sum()) / length)[:, None] if length != 0 else 0 * activation


def maps(student_hidden, teacher_hidden, mask):
    """L_AT of one pair of layers without beta/2, the mean over the batch. Shapes: (B, T, D), (B, T, D'), (B, T)."""
    return sum(direction(d)[1] for *_, d in differences(student_hidden, teacher_hidden, mask, "real")) / len(mask)


def maps_gradient(upstream, student_hidden, teacher_hidden, mask):
    """dL/dQ^S = 1/B (e - v <v, e>) / |Q^S|, e the direction of d."""
    dh = np.zeros_like(student_hidden)
    for b, seen, v, length, d in differences(student_hidden, teacher_hidden, mask, "real"):
        dh[b, seen] = through_map(student_hidden[b, seen], v, length, upstream / len(mask) * direction(d)[0])
    return {"student_hidden": dh}


def maps_official(student_hidden, teacher_hidden, mask, *, rows="all"):
    """Published code: the mean of the squares of d over all positions; rows "real": over the real ones."""
    w = weights(mask, rows=rows).max()              # 1/N
    return sum(w * (d * d).sum() for *_, d in differences(student_hidden, teacher_hidden, mask, rows))


def maps_official_gradient(upstream, student_hidden, teacher_hidden, mask, *, rows="all"):
    """dL/dQ^S = 2/N (d - v <v, d>) / |Q^S|."""
    w, dh = weights(mask, rows=rows).max(), np.zeros_like(student_hidden)
    for b, seen, v, length, d in differences(student_hidden, teacher_hidden, mask, rows):
        dh[b, seen] = through_map(student_hidden[b, seen], v, length, upstream * w * 2 * d)
    return {"student_hidden": dh}
