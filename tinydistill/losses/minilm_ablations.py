"""MiniLM's ablations: what else could stand for the value relation (Wang et al. 2020). `reference/minilm_ablations.py`.

    L_MSE = 1/(|x| D) sum_t |W v_t - v_t(teacher)|^2                    v_t the values of all heads, W learned
    L_HR  = 1/|x| sum_t KL(softmax(h h^T / sqrt D)_teacher || softmax(h h^T / sqrt D)_student)

Both did worse than L_VR in the paper. Its other two need no loss of their own: "attention only" leaves L_VR out, and
"layer to layer" is L_AT + L_VR on more pairs of layers, `term.on(pairs)`.
"""

from tinydistill import ops
from tinydistill.losses.convention import PAPER
from tinydistill.losses.relations import check_relations, emptied, regrouped, relation_kl, relation_scores
from tinydistill.losses.term import Term


def value_error(student_values, teacher_values, mask, weight, bias=None, *, convention=PAPER, divisor=None):
    """L_MSE: the mean squared error of the values of all heads, through a learned map to the teacher's width.

    Equation: 1/B sum_b 1/(n_b D) sum_{t <= n_b} sum_j (W v_bt + bias - v_bt(teacher))_j^2, n_b = mask.sum(1), D the
    teacher's width, B the divisor.
    Shapes: values (B, A, T, K), A and K of each its own; weight W (D, D'), widths of teacher and student; bias (D,) or
    None; mask (B, T). Units: squared values (no nats); per sequence, then batch mean.
    Gradient: the student and the learned map; with E = 2 (W v - v(teacher)) / (n_b D B), dv = W^T E and dW = sum E v^T.
    Raises: ValueError where shapes do not fit, or a sequence has no real token.
    Source: Wang et al. 2020, section 4, ablation "Value-MSE". No published code; that W maps all heads at once, and the
    divisor of a batch, are unverified.

    >>> import numpy as np
    >>> x = lambda *numbers: np.array(numbers).reshape(1, 1, 2, 1)      # one head, two tokens, head size 1
    >>> loss = value_error(x(1.0, 2.0), x(2.0, 7.0), np.ones((1, 2), bool), np.array([[3.0]]))
    >>> loss.item()                 # ((3 - 2)^2 + (6 - 7)^2) / 2
    1.0
    """
    student, teacher = (regrouped(values, 1) for values in (student_values, teacher_values))            # (B, 1, T, D)
    check_relations(student, teacher, mask)
    D = teacher.shape[3]
    if weight.shape != (D, student.shape[3]):
        raise ValueError(f"need a map from student to teacher width: student {student.shape[3]}, teacher {D}, "
                         f"map {weight.shape}")
    mapped = ops.linear(emptied(student, mask, convention.rows), weight, bias)                          # (B, 1, T, D)
    row_weight = convention.row_weights(mask, divisor, student.dtype) / D                               # (B, T)
    return ops.squared_error(mapped, teacher, weight=row_weight[:, None, :])


def hidden_relation_transfer(student_hidden, teacher_hidden, mask, *, convention=PAPER, divisor=None):
    """L_HR: how the hidden states of a sequence relate to each other, as one head.

    Equation: 1/B sum_b 1/n_b sum_{t <= n_b} KL(p_bt || q_bt) of softmax(h h^T / sqrt(D)), n_b = mask.sum(1), B the
    divisor. Shapes: hidden (B, T, D), D of each its own; mask (B, T). Units: nats; per sequence, then batch mean.
    Gradient: the student alone; with G = (q - p) / (n_b B) towards the relation's scores, dh = (G + G^T) h / sqrt(D).
    Raises: ValueError where shapes do not fit, or a sequence has no real token.
    Source: Wang et al. 2020, section 4: its training is unstable. No published code; one head and the scale by sqrt(D)
    are unverified.

    >>> import numpy as np
    >>> x = lambda *numbers: np.array(numbers).reshape(1, 2, 1)         # two tokens, hidden size 1
    >>> loss = hidden_relation_transfer(x(1.0, 3.0), x(0.0, 0.0), np.ones((1, 2), bool))
    >>> round(loss.item(), 6)       # log cosh(x/2): h h^T = [[1, 3], [3, 9]], so x = 2 and 6
    1.371555
    """
    student, teacher = (ops.reshape(x, shape=(x.shape[0], 1, *x.shape[1:])) for x in (student_hidden, teacher_hidden))
    check_relations(student, teacher, mask)
    return relation_kl(relation_scores(student, student, mask, convention),
                       relation_scores(teacher, teacher, mask, convention), mask, convention, divisor)


def _value_mse(term, student, teacher, batch, divisor, projections):
    return term.over_pairs(lambda s, t, weight, bias: value_error(
        student.values[s], teacher.values[t], batch.mask, weight, bias, convention=term.rule, divisor=divisor),
        projections)


def _hidden_relation(term, student, teacher, batch, divisor, projections):
    return term.over_pairs(lambda s, t: hidden_relation_transfer(
        student.hidden[s], teacher.hidden[t], batch.mask, convention=term.rule, divisor=divisor))


value_mse = Term("minilm.value_mse", _value_mse, reads=("values",), teacher_reads=("values",),
                 paper="Wang et al. 2020", equation="section 4", projection="minilm_values",
                 notes="one map for all heads and the divisor are unverified")
hidden_relation = Term("minilm.hidden_relation", _hidden_relation, reads=("hidden",), teacher_reads=("hidden",),
                       paper="Wang et al. 2020", equation="section 4",
                       notes="unstable in the paper; one head and its scale are unverified")
