"""MiniLMv2: multi-head self-attention relation distillation (Wang et al. 2021). As printed: `reference/minilm_v2.py`.

    L = L_QQ + L_KK + L_VV
    L_XX = 1/(R |x|) sum_r sum_t KL(softmax(x x^T / sqrt(D/R))_teacher || softmax(x x^T / sqrt(D/R))_student)

x are the queries, keys or values of all heads side by side (B, T, D), cut anew into R relation heads of D/R entries. So
student and teacher may differ in their heads, and R may be larger than both have. With R = A, L_VV is MiniLM's L_VR.
"""

from tinydistill.losses import minilm
from tinydistill.losses.convention import PAPER
from tinydistill.losses.relations import check_relations, regrouped, relation_kl, relation_scores
from tinydistill.losses.term import Term

CONVENTIONS = {name: minilm.CONVENTIONS[name] for name in ("paper", "paddlenlp")}


def relation_transfer(student_x, teacher_x, mask, relation_heads, *, convention=PAPER, divisor=None):
    """L_XX of one of queries, keys and values: how each token relates to each other, in relation heads.

    Equation: 1/B sum_b 1/(R n_b) sum_r sum_{t <= n_b} KL(p_brt || q_brt), n_b = mask.sum(1), R the relation heads and B
    the divisor; 1/(R T B) over all rows as paddlenlp does.
    Shapes: student_x, teacher_x (B, A, T, K), A and K of each its own, R divides A*K of both; mask (B, T), True at real
    tokens. Units: nats; per sequence, then batch mean.
    Gradient: the student alone; with G = (q - p) / (R n_b B) towards the relation's scores,
    dx = (G + G^T) x / sqrt(D/R).
    Raises: ValueError where R does not divide both widths, shapes do not fit, or a sequence has no real token.
    Source: Wang et al. 2021, section 3; rows and keys of padding are left out as in bloomberg/minilmv2.bb, which weighs
    the three by 1 each (1/3 in its docstring's example).

    >>> import numpy as np
    >>> student = np.array([1.0, 3.0, 0, 0, 0, 0, 0, 0]).reshape(1, 4, 2, 1)   # 4 heads of size 1: tokens 1000 and 3000
    >>> loss = relation_transfer(student, np.zeros((1, 2, 2, 2)), np.ones((1, 2), bool), 1)
    >>> round(loss.item(), 6)       # as one head x x^T / 2 = [[1, 3], [3, 9]] / 2: mean log cosh of 1/2 and 3/2
    0.487777
    """
    widths = [A * K for _, A, _, K in (student_x.shape, teacher_x.shape)]
    if relation_heads < 1 or any(width % relation_heads for width in widths):
        raise ValueError(f"need a number of relation heads that divides both widths: {relation_heads} relation heads, "
                         f"student {widths[0]}, teacher {widths[1]}")
    student, teacher = (regrouped(x, relation_heads) for x in (student_x, teacher_x))   # (B, R, T, D/R)
    check_relations(student, teacher, mask)
    return relation_kl(relation_scores(student, student, mask, convention),
                       relation_scores(teacher, teacher, mask, convention), mask, convention, divisor)


def _term_of(field):
    def loss(term, student, teacher, batch, divisor, projections):
        def of_pair(s, t):
            student_x, teacher_x = getattr(student, field)[s], getattr(teacher, field)[t]
            return relation_transfer(student_x, teacher_x, batch.mask, term.relation_heads or teacher_x.shape[1],
                                     convention=term.rule, divisor=divisor)
        return term.over_pairs(of_pair)

    return Term(f"minilm_v2.{field}", loss, reads=(field,), teacher_reads=(field,), paper="Wang et al. 2021",
                equation="section 3", conventions=CONVENTIONS,
                notes="as published code computes it; the number of the paper's section is unverified")


queries, keys, values = map(_term_of, ("queries", "keys", "values"))
