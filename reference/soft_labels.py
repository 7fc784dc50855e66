"""Soft labels: distilling the knowledge in a neural network (Hinton, Vinyals and Dean 2015), as printed.

    p_i = exp(z_i / T) / sum_j exp(z_j / T)             both networks, at the temperature T
    L   = T^2 1/N sum_n KL(p_n || q_n)                  over N rows of logits z, of p the teacher's, of q the student's
    L   = alpha CE(labels, q at T = 1) + (1 - alpha) T^2 KL

Shapes: student, teacher (N, C); counted (N,), True at rows that count. A span: (B, T, 2), a row runs over T positions.

Traps
  - N is the number of rows that count; torch's KLDivLoss divides "mean" by N C and "batchmean" by the first axis
  - T^2 belongs to the soft term only; without it the gradient shrinks as 1/T^2
  - T divides both sides; KL(teacher || student); the teacher is constant
  - KL and -sum p log q differ by the teacher's entropy: another value, the same gradient
"""

import numpy as np


def softmax_row(z, temperature):
    """exp(z_i / T) / sum_j exp(z_j / T), for one row."""
    e = np.exp((z - z.real.max()) / temperature)
    return e / e.sum()


def divergence(teacher_z, student_z, temperature=1, entropy=False):
    """sum_c p_c (log p_c - log q_c) of one row of logits; with the entropy left in, -sum_c p_c log q_c."""
    p, q = softmax_row(teacher_z, temperature), softmax_row(student_z, temperature)
    return sum(p[c] * ((0 if entropy else np.log(p[c])) - np.log(q[c])) for c in range(len(p)))


def soft_labels(student, teacher, counted, temperature=1, squared=True, per_class=False, entropy=False):
    """L; squared: with T^2; per_class: over N C; entropy: as a cross-entropy."""
    rows = np.flatnonzero(counted)
    total = sum(divergence(teacher[n], student[n], temperature, entropy) for n in rows)
    return (temperature ** 2 if squared else 1) * total / (len(rows) * (student.shape[1] if per_class else 1))


def logits_mse(student, teacher, counted, temperature=1, per_class=False):
    """1/N sum_n sum_c ((z^S - z^T) / T)^2 (Tang et al. 2019, at T = 1); per_class: over N C."""
    rows, C = np.flatnonzero(counted), student.shape[1]
    total = sum(((student[n, c] - teacher[n, c]) / temperature) ** 2 for n in rows for c in range(C))
    return total / (len(rows) * (C if per_class else 1))


def span(student, teacher, mask, temperature=2, padding=False):
    """1/B sum_b 1/2 (T^2 KL_start + T^2 KL_end), over real positions; with padding, over all."""
    total = 0
    for b in range(len(student)):
        seen = np.flatnonzero(mask[b] | padding)
        for side in (0, 1):
            total = total + divergence(teacher[b, seen, side], student[b, seen, side], temperature) / 2
    return temperature ** 2 * total / len(student)


def with_hard_labels(student, teacher, labels, alpha, temperature):
    """alpha CE + (1 - alpha) T^2 KL, each a mean over the rows."""
    hard = -sum(np.log(softmax_row(z, 1)[y]) for z, y in zip(student, labels)) / len(labels)
    return alpha * hard + (1 - alpha) * soft_labels(student, teacher, np.ones(len(labels), bool), temperature)
