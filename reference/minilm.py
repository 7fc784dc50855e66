"""MiniLM: deep self-attention distillation (Wang, Wei, Dong, Bao, Yang and Zhou 2020), equations 6 to 10, as printed.

    A_a       = softmax(Q_a K_a^T / sqrt(d_k))                                       attention distributions, eq. 3
    L_AT      = 1/(A_h |x|) sum_a sum_t KL(A^T_{L,a,t} || A^S_{M,a,t})               eq. 6
    VR_a      = softmax(V_a V_a^T / sqrt(d_k)),   with sqrt(d'_k) for the student    eq. 7, 8
    L_VR      = 1/(A_h |x|) sum_a sum_t KL(VR^T_{L,a,t} || VR^S_{M,a,t})             eq. 9
    L         = L_AT + L_VR                                                          eq. 10

    dL/dS_t   = w_t (q_t - p_t)             of a row of scores S = X Y^T / sqrt(d'_k), q the student's, p the teacher's
    dL/dX     = dS Y / sqrt(d'_k),   dL/dY = dS^T X / sqrt(d'_k)                     both, added up, where X = Y

L and M are the last layers of teacher and student. The paper writes one sequence x of |x| tokens; a batch is the mean
of that over its sequences, each without its padding. Shapes: q, k, v (B, A_h, T, d_k), mask (B, T).

Traps
  - padding is cut away on both sides of the product: as key (the softmax runs over |x| keys) and as row (|x| rows)
  - |x| is the sequence's own length, not T: dividing by T makes a loss that depends on the padding
  - the student's scores are divided by sqrt(d'_k), its own head size
  - KL(teacher || student), not the other way round, of the probabilities before dropout
"""

import numpy as np

from tinydistill_reference.conventions import need, weights


def log_relation(x, y):
    """log softmax(x y^T / sqrt(d_k)), row by row. Shapes: x, y (|x|, d_k) -> (|x|, |x|)."""
    scores = np.array([[x[t] @ y[s] for s in range(len(y))] for t in range(len(x))]) / x.shape[1] ** 0.5
    shifted = scores - scores.real.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def relation(x, y):
    """softmax(x y^T / sqrt(d_k)), row by row."""
    return np.exp(log_relation(x, y))


def rows_and_weights(student, teacher, mask, rows, divisor):
    """(b, a, keys, rows that count, what multiplies the divergence of each) for every sequence and head."""
    (B, A_h, T), teacher_heads = student.shape[:3], teacher.shape[:3]
    need((B, A_h, T) == teacher_heads and mask.shape == (B, T),
         f"the same (B, A, T): student {student.shape}, teacher {teacher.shape}, mask {mask.shape}")
    need(mask.any(axis=1).all(), "at least one real token in every sequence of the mask")
    w = weights(mask, rows=rows, divisor=divisor) / A_h
    return [(b, a, np.flatnonzero(mask[b]), np.flatnonzero(w[b]), w[b][w[b] > 0])
            for b in range(B) for a in range(A_h)]


def transfer(student_x, student_y, teacher_x, teacher_y, mask, *, rows="real", divisor="sequence"):
    """mean over sequences of 1/(A_h |x|) sum_a sum_t KL(relation^T_{a,t} || relation^S_{a,t})."""
    total = 0
    for b, a, real, counted, w in rows_and_weights(student_x, teacher_x, mask, rows, divisor):
        log_p = log_relation(teacher_x[b, a, counted], teacher_y[b, a, real])
        log_q = log_relation(student_x[b, a, counted], student_y[b, a, real])
        for t in range(len(counted)):
            total = total + w[t] * sum(np.exp(log_p[t]) * (log_p[t] - log_q[t]))
    return total


def transfer_gradient(upstream, student_x, student_y, teacher_x, teacher_y, mask, *, rows="real", divisor="sequence"):
    """(dL/dX, dL/dY) of the student."""
    dx, dy, scale = np.zeros_like(student_x), np.zeros_like(student_y), student_x.shape[3] ** 0.5
    for b, a, real, counted, w in rows_and_weights(student_x, teacher_x, mask, rows, divisor):
        p = relation(teacher_x[b, a, counted], teacher_y[b, a, real])
        q = relation(student_x[b, a, counted], student_y[b, a, real])
        dscores = upstream * w[:, None] * (q - p)
        dx[b, a, counted] += dscores @ student_y[b, a, real] / scale
        dy[b, a, real] += dscores.T @ student_x[b, a, counted] / scale
    return dx, dy


def attention_transfer(student_queries, student_keys, teacher_queries, teacher_keys, mask, **convention):
    """L_AT, equation 6."""
    return transfer(student_queries, student_keys, teacher_queries, teacher_keys, mask, **convention)


def attention_transfer_gradient(upstream, student_queries, student_keys, teacher_queries, teacher_keys, mask,
                                **convention):
    """dL/dQ and dL/dK of the student."""
    dq, dk = transfer_gradient(upstream, student_queries, student_keys, teacher_queries, teacher_keys, mask,
                               **convention)
    return {"student_queries": dq, "student_keys": dk}


def value_relation_transfer(student_values, teacher_values, mask, **convention):
    """L_VR, equation 9."""
    return transfer(student_values, student_values, teacher_values, teacher_values, mask, **convention)


def value_relation_transfer_gradient(upstream, student_values, teacher_values, mask, **convention):
    """dL/dV of the student: V stands on both sides of the product."""
    dx, dy = transfer_gradient(upstream, student_values, student_values, teacher_values, teacher_values, mask,
                               **convention)
    return {"student_values": dx + dy}


def minilm(student_q, student_k, student_v, teacher_q, teacher_k, teacher_v, mask):
    """L, equation 10."""
    return (attention_transfer(student_q, student_k, teacher_q, teacher_k, mask)
            + value_relation_transfer(student_v, teacher_v, mask))
