"""Knowledge distillation from internal representations (Aguilar et al. 2020). Sum by sum: `reference/internal.py`.

    L_kl  = 1/A sum_a mean_t KL(a^T_at || a^S_at)           attention distributions a_at of head a and query t
    L_cos = 1 - cos(h^T, h^S)                               h the [CLS] vector that a layer puts out

for every pair of layers of the method: layer i of the student beside the last one of the teacher's i-th block. Heads
and widths of the two are equal. The formulas are unverified: from memory of the paper, and no official code is known.
"""

from tinydistill import ops
from tinydistill.losses.convention import PAPER, Convention
from tinydistill.losses.relations import check_relations, relation_kl
from tinydistill.losses.rows import check_rows, cls_mask
from tinydistill.losses.term import Term

CONVENTIONS = {
    "paper": PAPER.but(source="our choice: the mean over heads and real query rows of a sequence, then over the batch"),
    "summed": Convention(divisor="none", source="unverified: Aguilar et al. 2020 may sum over query positions, and "
                         "average over heads alone; over a batch it is a sum as well"),
}
UNVERIFIED = "unverified: the formula is from memory, and no official code is known"


def attention_divergence(student_scores, teacher_scores, mask, *, convention=PAPER, divisor=None):
    """L_kl of one pair of layers: the teacher's attention distributions, head by head.

    Equation: 1/B sum_b 1/(A n_b) sum_a sum_{t <= n_b} KL(p_bat || q_bat) over the n_b = mask.sum(1) real keys, B the
    divisor; p, q = softmax(scores). Under the convention `summed` neither n_b nor B divides.
    Shapes: scores (B, A, T, T), scaled, before mask and softmax; mask (B, T), True at real tokens.
    Units: nats; per sequence, then batch mean.
    Gradient: the student alone; (q - p) / (A n_b B) towards its scores, exactly 0 in padding.
    Raises: ValueError where shapes do not fit, or a sequence has no real token.
    Source: Aguilar et al. 2020, L_kl (unverified: whether the paper sums over query positions or averages them; we
    average over heads and real query rows). aitsc/GLMKD distill_model.py, by third parties, sums over the keys and
    then averages over all else, padding included.

    >>> import numpy as np
    >>> x = lambda *numbers: np.array(numbers).reshape(1, 1, 2, 2)      # one head, two tokens
    >>> loss = attention_divergence(x(0.0, 1.0, 0.0, 2.0), np.zeros((1, 1, 2, 2)), np.ones((1, 2), bool))
    >>> round(loss.item(), 6)       # KL((1/2, 1/2) || softmax(0, x)) = log cosh(x/2), here for x = 1 and 2: their mean
    0.276948
    """
    check_relations(student_scores, teacher_scores, mask)
    return relation_kl(student_scores, teacher_scores, mask, convention, divisor)


def cosine_distance(student, teacher, mask, *, convention=PAPER, divisor=None):
    """L_cos of one pair of layers: how far the [CLS] vectors point from each other.

    Equation: 1/B sum_b (1 - <u^S_b, u^T_b>), u = h / max(|h|, 1e-12) of h = hidden[:, 0], B the divisor.
    Shapes: student, teacher (B, T, D), equal; mask (B, T), True at real tokens.
    Units: 1 - cosine (no nats), from 0 to 2; 1 where one of the two vectors is 0.
    Gradient: the student alone, at position 0; -1/B (u^T - u^S <u^S, u^T>) / |h^S|.
    Raises: ValueError where shapes or widths do not fit, or position 0 of a sequence is padding.
    Source: Aguilar et al. 2020, L_cos (unverified); the same as PyTorch's cosine_embedding_loss with target 1.

    >>> import numpy as np
    >>> x = lambda *numbers: np.array(numbers).reshape(1, 2, 2)         # [CLS] and one token more, two wide
    >>> loss = cosine_distance(x(2.0, 0.0, 5.0, 5.0), x(3.0, 4.0, 7.0, 7.0), np.ones((1, 2), bool))
    >>> round(loss.item(), 6)       # 1 - 3/5
    0.4
    """
    check_rows(student, teacher, mask)
    direction, aim = ops.unit_norm(student[:, :1]), ops.unit_norm(teacher[:, :1]).array      # (B, 1, D)
    weight = convention.row_weights(cls_mask(mask), divisor, student.dtype)                  # (B, 1)
    return ((1.0 - (direction * aim).sum(axis=2)) * weight).sum()


def _attention(term, student, teacher, batch, divisor, projections):
    return term.over_pairs(lambda s, t: attention_divergence(
        student.scores[s], teacher.scores[t], batch.mask, convention=term.rule, divisor=divisor))


def _cosine(term, student, teacher, batch, divisor, projections):
    return term.over_pairs(lambda s, t: cosine_distance(
        student.hidden[s], teacher.hidden[t], batch.mask, convention=term.rule, divisor=divisor))


def _count_cls(term, batch):
    return term.rule.divides_by(cls_mask(batch.mask))


attention = Term("internal.attention", _attention, reads=("scores",), teacher_reads=("scores",),
                 paper="Aguilar et al. 2020", equation="eq. of L_kl (its number is unverified)",
                 conventions=CONVENTIONS, notes=UNVERIFIED)
cosine = Term("internal.cosine", _cosine, _count_cls, ("hidden",), ("hidden",), paper="Aguilar et al. 2020",
              equation="eq. of L_cos (its number is unverified)", notes=UNVERIFIED)
