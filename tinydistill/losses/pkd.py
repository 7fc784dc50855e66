"""Patient knowledge distillation (Sun et al. 2019). As printed, sum by sum: `reference/pkd.py`.

    L_PT = sum_i sum_j || h^S_ij / |h^S_ij| - h^T_i,g(j) / |h^T_i,g(j)| ||^2

of the [CLS] vectors h of every example i at the student's layers j and the teacher's g(j). Which layers these are is
the method's: PKD-Skip takes every second one, PKD-Last the last ones. The widths of student and teacher are equal.
"""

from tinydistill import ops
from tinydistill.losses.convention import PAPER, Convention
from tinydistill.losses.rows import check_rows, cls_mask
from tinydistill.losses.term import Term

CONVENTIONS = {
    "paper": PAPER.but(source="Sun et al. 2019, whose sum over the examples we make a mean over the batch"),
    "official": Convention(divisor="element", source="intersun/PKD-for-BERT-Model-Compression "
                           "src/KD_loss.py: a mean over sequences, layers and width"),
    "textbrewer": Convention(divisor="row", source="airaria/TextBrewer losses.py pkd_loss: "
                             "the paper's sum over the width, a mean over sequences"),
}


def patient_loss(student, teacher, mask, *, normalise=True, convention=PAPER, divisor=None):
    """L_PT of one pair of layers: the squared distance between the directions of two [CLS] vectors.

    Equation: 1/B sum_b sum_d (u^S_bd - u^T_bd)^2, u = h / max(|h|, 1e-12) of h = hidden[:, 0], B the divisor. The paper
    sums over the examples: that is the divisor "none". The convention `official` divides by D too, and its term by the
    number of layers. normalise: False compares h itself, without its length taken out.
    Shapes: student, teacher (B, T, D), equal; mask (B, T), True at real tokens.
    Units: squared length (no nats); between directions at most 4.
    Gradient: the student alone, at position 0; 2/B (g - u <u, g>) / |h^S| with g = u^S - u^T: never along h^S itself.
    Raises: ValueError where shapes or widths do not fit, or position 0 of a sequence is padding.
    Source: Sun et al. 2019, the equation of L_PT. intersun/PKD-for-BERT-Model-Compression src/KD_loss.py takes a mean
    over every element, (k - 1) B D times smaller than the paper's sum for k - 1 layers, which its beta of 10 to 1000 is
    made for; there normalising is a flag, normalize_patience, False by default, and the published grid tries both.

    >>> import numpy as np
    >>> x = lambda *numbers: np.array(numbers).reshape(1, 2, 2)         # [CLS] and one token more, two wide
    >>> loss = patient_loss(x(2.0, 0.0, 5.0, 5.0), x(3.0, 4.0, 7.0, 7.0), np.ones((1, 2), bool))
    >>> round(loss.item(), 6)       # (1 - 0.6)^2 + (0 - 0.8)^2
    0.8
    """
    check_rows(student, teacher, mask)
    student, teacher = student[:, :1], teacher[:, :1]                                   # (B, 1, D)
    if normalise:
        student, teacher = ops.unit_norm(student), ops.unit_norm(teacher)
    weight = convention.row_weights(cls_mask(mask), divisor, student.dtype)             # (B, 1)
    if convention.divisor == "element":
        weight = weight / student.shape[2]
    return ops.squared_error(student, teacher, weight=weight)


def _patience(term, student, teacher, batch, divisor, projections):
    return term.over_pairs(lambda s, t: patient_loss(
        student.hidden[s], teacher.hidden[t], batch.mask, convention=term.rule, divisor=divisor))


def _count(term, batch):
    """Sequences; a mean over every element is one over the pairs of layers too."""
    layers = len(term.pairs) if term.rule.divisor == "element" else 1
    return term.rule.divides_by(cls_mask(batch.mask)) * layers


patience = Term("pkd.patience", _patience, _count, ("hidden",), ("hidden",), paper="Sun et al. 2019",
                equation="eq. of L_PT (its number is unverified)", conventions=CONVENTIONS)
