"""MiniLM: deep self-attention distillation (Wang et al. 2020). As printed, sum by sum: `reference/minilm.py`.

    L = L_AT + L_VR                                                                                     eq. 10
    L_AT = 1/(A |x|) sum_a sum_t KL(softmax(q k^T / sqrt K)_teacher || softmax(q k^T / sqrt K)_student) eq. 6
    L_VR = 1/(A |x|) sum_a sum_t KL(softmax(v v^T / sqrt K)_teacher || softmax(v v^T / sqrt K)_student) eq. 9

of the last layer of each, with sqrt of its own head size K; |x| = mask.sum(1) is the sequence's length without
padding, and a batch is the mean over its sequences. Head counts are equal; depth, width and head size are free.
"""

from tinydistill.losses.convention import PAPER, Convention
from tinydistill.losses.relations import check_relations, relation_kl, relation_scores
from tinydistill.losses.term import Term

CONVENTIONS = {
    "paper": PAPER.but(source="Wang et al. 2020, equations 6 and 9, with padding left out on both sides"),
    "paddlenlp": Convention(rows="all", divisor="row",
                            source="PaddlePaddle/PaddleNLP paddlenlp/transformers/distill_utils.py, its MiniLMv2: "
                                   "1/(A T B), rows of padding count, its keys do not"),
    "token": Convention(divisor="row", source="no project by name: one mean over the real tokens of the whole batch"),
}


def attention_transfer(student_queries, student_keys, teacher_queries, teacher_keys, mask, divisor=None, *,
                       convention=PAPER):
    """L_AT: the teacher's self-attention distributions, transferred.

    Equation: 6, 1/B sum_b 1/(A n_b) sum_a sum_{t <= n_b} KL(p_bat || q_bat), n_b = mask.sum(1), B the divisor;
    1/(A T B) over all rows as paddlenlp does, 1/(A sum_b n_b) per "token".
    Shapes: queries, keys (B, A, T, K), K may differ between student and teacher; mask (B, T), True at real tokens.
    Units: nats; per sequence, then batch mean. Probabilities are those before dropout.
    Gradient: the student alone; (q - p) / (A n_b B) towards its scores, exactly 0 in padding.
    Raises: ValueError where shapes do not fit, or a sequence has no real token.
    Source: Wang et al. 2020, section 3.1. There is no published code; padded keys and rows are left out as the authors
    answered for the keys (microsoft/unilm issue 198), and as bloomberg/minilmv2.bb does for both. Not conventions:
    xdpx's MiniLM loss (repository unconfirmed) is half of the `paper` sum; aitsc/GLMKD takes a plain mean, and
    a softmax of the probabilities once more.

    >>> import numpy as np; from tinydistill import Tensor
    >>> x = lambda *numbers: np.array(numbers).reshape(1, 1, 2, 1)      # one head, two tokens, head size 1
    >>> student = Tensor(x(1.0, 2.0), requires_grad=True)
    >>> loss = attention_transfer(student, x(1.0, 0.0), x(1.0, 2.0), x(0.0, 0.0), np.ones((1, 2), bool))
    >>> round(loss.item(), 6)       # KL((1/2, 1/2) || softmax(0, x)) = log cosh(x/2), here for x = 1 and 2: their mean
    0.276948
    """
    check_relations(student_queries, teacher_queries, mask)
    check_relations(student_keys, teacher_keys, mask)
    return relation_kl(relation_scores(student_queries, student_keys, mask, convention),
                       relation_scores(teacher_queries, teacher_keys, mask, convention), mask, convention, divisor)


def value_relation_transfer(student_values, teacher_values, mask, divisor=None, *, convention=PAPER):
    """L_VR: how the teacher's values of a sequence relate to each other, transferred.

    Equation: 7 to 9, as `attention_transfer` with v v^T / sqrt(K) in the place of q k^T / sqrt(K).
    Shapes: values (B, A, T, K), K may differ; mask (B, T). Units: nats; per sequence, then batch mean.
    Gradient: the student alone; with G = (q - p) / (A n_b B) towards the relation's scores, dv = (G + G^T) v / sqrt(K):
    a value stands on both sides of its relation.
    Raises: ValueError where shapes do not fit, or a sequence has no real token.
    Source: Wang et al. 2020, section 3.2; published code differs as in `attention_transfer`.

    >>> import numpy as np
    >>> x = lambda *numbers: np.array(numbers).reshape(1, 1, 2, 1)
    >>> loss = value_relation_transfer(x(1.0, 3.0), x(0.0, 0.0), np.ones((1, 2), bool))
    >>> round(loss.item(), 6)       # log cosh(x/2) again: v v^T = [[1, 3], [3, 9]], so x = 2 and 6
    1.371555
    """
    check_relations(student_values, teacher_values, mask)
    return relation_kl(relation_scores(student_values, student_values, mask, convention),
                       relation_scores(teacher_values, teacher_values, mask, convention), mask, convention, divisor)


def _attention(term, student, teacher, batch, divisor, projections):
    return term.over_pairs(lambda s, t: attention_transfer(
        student.queries[s], student.keys[s], teacher.queries[t], teacher.keys[t], batch.mask, divisor,
        convention=term.rule))


def _value_relation(term, student, teacher, batch, divisor, projections):
    return term.over_pairs(lambda s, t: value_relation_transfer(
        student.values[s], teacher.values[t], batch.mask, divisor, convention=term.rule))


attention = Term("minilm.attention", _attention, reads=("queries", "keys"), teacher_reads=("queries", "keys"),
                 paper="Wang et al. 2020", equation="eq. 6", conventions=CONVENTIONS)
value_relation = Term("minilm.value_relation", _value_relation, reads=("values",), teacher_reads=("values",),
                      paper="Wang et al. 2020", equation="eq. 7 to 9", conventions=CONVENTIONS)
