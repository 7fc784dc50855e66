"""MiniLM: deep self-attention distillation (Wang, Wei, Dong, Bao, Yang and Zhou 2020), equations 6 to 10, as printed.

    A_a       = softmax(Q_a K_a^T / sqrt(d_k))                                       attention distributions, eq. 3
    L_AT      = 1/(A_h |x|) sum_a sum_t KL(A^T_{L,a,t} || A^S_{M,a,t})               eq. 6
    VR_a      = softmax(V_a V_a^T / sqrt(d_k)),   with sqrt(d'_k) for the student    eq. 7, 8
    L_VR      = 1/(A_h |x|) sum_a sum_t KL(VR^T_{L,a,t} || VR^S_{M,a,t})             eq. 9
    L         = L_AT + L_VR                                                          eq. 10

L and M are the last layers of teacher and student. The paper writes one sequence x of |x| tokens; a batch is the mean
of that over its sequences, each without its padding. Shapes: q, k, v (B, A_h, T, d_k), mask (B, T).

Traps
  - padding is cut away on both sides of the product: as key (the softmax runs over |x| keys) and as row (|x| rows)
  - |x| is the sequence's own length, not T: dividing by T makes a loss that depends on the padding
  - the student's scores are divided by sqrt(d'_k), its own head size
  - KL(teacher || student), not the other way round, of the probabilities before dropout
"""

import numpy as np


def relation(x, y):
    """softmax(x y^T / sqrt(d_k)), row by row. Shapes: x, y (|x|, d_k) -> (|x|, |x|)."""
    scores = np.array([[x[t] @ y[s] for s in range(len(y))] for t in range(len(x))]) / np.sqrt(x.shape[1])
    e = np.exp(scores - scores.real.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def transfer(teacher_x, teacher_y, student_x, student_y, mask, convention="paper"):
    """mean over sequences of 1/(A_h |x|) sum_a sum_t KL(relation^T_{a,t} || relation^S_{a,t}).

    Other codes: "token", the mean over all real tokens of the batch; "paddlenlp", over all T rows of all sequences.
    """
    total, (B, A_h, T) = 0, teacher_x.shape[:3]
    for b in range(B):
        real = np.flatnonzero(mask[b])
        rows = np.arange(T) if convention == "paddlenlp" else real
        divisor = {"paper": A_h * len(real) * B, "token": A_h * mask.sum(), "paddlenlp": A_h * T * B}[convention]
        for a in range(A_h):
            p = relation(teacher_x[b, a, rows], teacher_y[b, a, real])
            q = relation(student_x[b, a, rows], student_y[b, a, real])
            for t in range(len(rows)):
                total = total + sum(p[t] * (np.log(p[t]) - np.log(q[t]))) / divisor
    return total


def attention_transfer(student_q, student_k, teacher_q, teacher_k, mask, convention="paper"):
    """L_AT, equation 6."""
    return transfer(teacher_q, teacher_k, student_q, student_k, mask, convention)


def value_relation_transfer(student_v, teacher_v, mask, convention="paper"):
    """L_VR, equation 9."""
    return transfer(teacher_v, teacher_v, student_v, student_v, mask, convention)


def minilm(student_q, student_k, student_v, teacher_q, teacher_k, teacher_v, mask):
    """L, equation 10."""
    return (attention_transfer(student_q, student_k, teacher_q, teacher_k, mask)
            + value_relation_transfer(student_v, teacher_v, mask))
