"""Attention transfer (Zagoruyko and Komodakis 2017), on hidden states. Sum by sum: `reference/attention_transfer.py`.

    Q = vec(mean_d f_d^2)                                                       activation-based spatial attention map
    L_AT = beta/2 sum_j || Q^S_j / |Q^S_j| - Q^T_j / |Q^T_j| ||_2               over pairs j of layers: no square

An image has f (channels, height, width) and a map over its pixels; a Transformer's f is the output of a layer,
hidden (T, D), and its map says how strongly each of the sequence's tokens is activated. Widths may differ: D is
averaged away. Lengths may not. beta/2 is the term's weight and stands in the method. Where a layer ends in a layer
norm, scale and shift alone tell its tokens apart: without them every token has sum_d f_d^2 = D, and every map is flat.

Published code minimises the mean squared difference of the same two maps instead: another loss, the second one here.
"""

from tinydistill import ops
from tinydistill.losses.convention import PAPER, Convention
from tinydistill.losses.rows import check_tokens, only_counted
from tinydistill.losses.term import Term

OFFICIAL = Convention(rows="all", divisor="row", source="szagoruyko/attention-transfer utils.py: a mean over B H W")
CONVENTIONS = {"paper": PAPER.but(source="Zagoruyko and Komodakis 2017, without beta/2; Q over the real tokens")}
CONVENTIONS_OFFICIAL = {
    "official": OFFICIAL,
    "real": OFFICIAL.but(rows="real", source="the same with padding left out of the maps and of the mean"),
}


def attention_transfer(student, teacher, mask, *, convention=PAPER, divisor=None):
    """L_AT of one pair of layers: the distance between two attention maps of length 1.

    Equation: 1/B sum_b || Q^S_b / |Q^S_b| - Q^T_b / |Q^T_b| ||_2, Q_bt = 1/D sum_d hidden_btd^2 over the real tokens t,
    B the divisor; without the paper's beta/2.
    Shapes: student (B, T, D), teacher (B, T, D'); mask (B, T), True at real tokens.
    Units: a length (no nats), at most sqrt 2.
    Gradient: the student alone; with e = d / |d| for the difference d of the two maps, and v = Q^S / |Q^S|,
    (e - v <v, e>) / (B |Q^S|) towards Q^S, exactly 0 in padding. A length has no derivative at 0: where the two maps
    are equal we take 0, as the value is.
    Raises: ValueError where shapes do not fit, or a sequence has no real token.
    Source: Zagoruyko and Komodakis 2017, the equation of L_AT. Their own code: `attention_transfer_official`.

    >>> import numpy as np
    >>> x = lambda *numbers: np.array(numbers).reshape(1, 2, -1)        # one sequence, two tokens
    >>> student, teacher = x(1.0, 0.0), x(1.0, 1.0, 1.0, 1.0)           # Q = (1, 0) and (1, 1) / sqrt 2
    >>> loss = attention_transfer(student, teacher, np.ones((1, 2), bool))
    >>> round(loss.item(), 6)       # sqrt(2 - sqrt 2)
    0.765367
    """
    check_tokens(student, teacher, mask)
    difference = _attention_map(student, mask, convention) - _attention_map(teacher, mask, convention).array  # (B, T)
    # |d| = <d, e> with its direction e = d / |d| held fixed: the derivative of a length is its direction. d = 0: e = 0.
    direction = ops.unit_norm(difference).array
    weight = convention.row_weights(mask.any(axis=1, keepdims=True), divisor, student.dtype)               # (B, 1)
    return (difference * direction * weight).sum()


def attention_transfer_official(student, teacher, mask, *, convention=OFFICIAL, divisor=None):
    """What published code computes in the place of L_AT: the mean squared difference of the two maps.

    Equation: 1/N sum_b sum_t (Q^S_bt / |Q^S_b| - Q^T_bt / |Q^T_b|)^2 over all N = B T positions, N the divisor; padded
    ones are in the maps and in N. The convention `real` leaves them out of both.
    Shapes: as `attention_transfer`. Units: a squared length over the number of positions (no nats).
    Gradient: the student alone; 2/N (d - v <v, d>) / |Q^S| towards Q^S, with d and v as there.
    Raises: ValueError where shapes do not fit.
    Source: szagoruyko/attention-transfer utils.py: (Q^S - Q^T)^2, then the mean over B H W; added up over the layers
    and weighted by beta, not beta/2.

    >>> import numpy as np
    >>> x = lambda *numbers: np.array(numbers).reshape(1, 2, -1)        # one sequence, two tokens
    >>> loss = attention_transfer_official(x(1.0, 0.0), x(1.0, 1.0, 1.0, 1.0), np.ones((1, 2), bool))
    >>> round(loss.item(), 6)       # (2 - sqrt 2) / 2
    0.292893
    """
    check_tokens(student, teacher, mask)
    difference = _attention_map(student, mask, convention) - _attention_map(teacher, mask, convention).array  # (B, T)
    return (difference * difference * convention.row_weights(mask, divisor, student.dtype)).sum()


def _attention_map(hidden, mask, convention):
    """Q / |Q|, 0 at tokens that do not count. (B, T, D) -> (B, T)."""
    hidden = only_counted(hidden, mask, convention)
    return ops.unit_norm(ops.mean(hidden * hidden, axis=2))


def _maps(term, student, teacher, batch, divisor, projections):
    return term.over_pairs(lambda s, t: attention_transfer(
        student.hidden[s], teacher.hidden[t], batch.mask, convention=term.rule, divisor=divisor))


def _maps_official(term, student, teacher, batch, divisor, projections):
    return term.over_pairs(lambda s, t: attention_transfer_official(
        student.hidden[s], teacher.hidden[t], batch.mask, convention=term.rule, divisor=divisor))


maps = Term("attention_transfer.maps", _maps, reads=("hidden",), teacher_reads=("hidden",),
            paper="Zagoruyko and Komodakis 2017", equation="eq. of L_AT (its number is unverified)",
            conventions=CONVENTIONS)
maps_official = Term("attention_transfer.maps_official", _maps_official, reads=("hidden",), teacher_reads=("hidden",),
                     paper="Zagoruyko and Komodakis 2017", equation="eq. of L_AT, as in their code",
                     conventions=CONVENTIONS_OFFICIAL, convention="official")
