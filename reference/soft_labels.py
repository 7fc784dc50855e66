"""Soft labels: distilling the knowledge in a neural network (Hinton, Vinyals and Dean 2015), as printed.

    p_i = exp(z_i / T) / sum_j exp(z_j / T)             both networks, at the temperature T
    L   = T^2 1/N sum_n KL(p_n || q_n)                  over N rows of logits z, of p the teacher's, q the student's
    dL/dz^S_n = T/N (q_n - p_n)
    L   = alpha CE(labels, q at T = 1) + (1 - alpha) T^2 KL

Shapes: student, teacher (..., V), mask (...,), True at rows that count, labels (...,), -100 where there is none.
A span: (B, T, 2), a row runs over T positions.

Traps
  - N is the number of rows that count; torch's KLDivLoss divides "mean" by N V and "batchmean" by the first axis
  - T^2 belongs to the soft term only; without it the gradient shrinks as 1/T^2
  - T divides both sides; KL(teacher || student); the teacher is constant
  - KL and -sum p log q differ by the teacher's entropy: another value, the same gradient
"""

import numpy as np

from tinydistill_reference.conventions import need, weights
from tinydistill_reference.softmax import log_softmax_row, softmax_row


def divergence(teacher_z, student_z, temperature=1.0, constant="kl"):
    """sum_c p_c (log p_c - log q_c) of one row of logits; constant "cross-entropy": -sum_c p_c log q_c."""
    log_p, log_q = log_softmax_row(teacher_z, temperature), log_softmax_row(student_z, temperature)
    p, entropy_left_in = np.exp(log_p), constant == "cross-entropy"
    return sum(p[c] * ((0 if entropy_left_in else log_p[c]) - log_q[c]) for c in range(len(p)))


def row_weights(student, teacher, mask, labels, temperature, rows, divisor, temperature_squared):
    """What multiplies the divergence of each row: T^2 / N, or what a convention has instead."""
    need(student.shape == teacher.shape, f"logits of one shape: student {student.shape}, teacher {teacher.shape}")
    need(temperature > 0, f"a temperature above 0, got {temperature}")
    mask = np.ones(student.shape[:-1], bool) if mask is None else mask
    need(mask.shape == student.shape[:-1], f"a mask of the logits' rows: mask {mask.shape}, logits {student.shape}")
    need(mask.any(), "at least one row that counts in the mask")
    need(labels is None or labels.shape == mask.shape, "labels in the shape of the logits' rows")
    w = weights(mask, labels, rows=rows, divisor=divisor, entries=student.shape[-1])
    return w * (temperature ** 2 if temperature_squared else 1)


def soft_labels(student_logits, teacher_logits, mask=None, labels=None, *, temperature=1.0, rows="real", divisor="row",
                temperature_squared=True, constant="kl"):
    """L."""
    w = row_weights(student_logits, teacher_logits, mask, labels, temperature, rows, divisor, temperature_squared)
    return sum((w[n] * divergence(teacher_logits[n], student_logits[n], temperature, constant)
                for n in zip(*np.nonzero(w))), start=0.0)


def soft_labels_gradient(upstream, student_logits, teacher_logits, mask=None, labels=None, *, temperature=1.0,
                         rows="real", divisor="row", temperature_squared=True, constant="kl"):
    """dL/dz^S = w (q - p) / T, for either constant."""
    w = row_weights(student_logits, teacher_logits, mask, labels, temperature, rows, divisor, temperature_squared)
    dz = np.zeros_like(student_logits)
    for n in zip(*np.nonzero(w)):
        p, q = softmax_row(teacher_logits[n], temperature), softmax_row(student_logits[n], temperature)
        dz[n] = upstream * w[n] * (q - p) / temperature
    return {"student_logits": dz}


def logits_mse(student_logits, teacher_logits, mask=None, labels=None, *, temperature=1.0, rows="real", divisor="row"):
    """1/N sum_n sum_c ((z^S - z^T) / T)^2 (Tang et al. 2019, at T = 1)."""
    w = row_weights(student_logits, teacher_logits, mask, labels, temperature, rows, divisor, False)
    return sum((w[n] * sum(((s - t) / temperature) ** 2 for s, t in zip(student_logits[n], teacher_logits[n]))
                for n in zip(*np.nonzero(w))), start=0.0)


def logits_mse_gradient(upstream, student_logits, teacher_logits, mask=None, labels=None, *, temperature=1.0,
                        rows="real", divisor="row"):
    """dL/dz^S = 2 w (z^S - z^T) / T^2."""
    w = row_weights(student_logits, teacher_logits, mask, labels, temperature, rows, divisor, False)
    dz = np.zeros_like(student_logits)
    for n in zip(*np.nonzero(w)):
        dz[n] = upstream * w[n] * 2 * (student_logits[n] - teacher_logits[n]) / temperature ** 2
    return {"student_logits": dz}


def span_rows(student_logits, teacher_logits, mask, temperature, keys):
    """(b, the positions that take part, 0 for the start and 1 for the end) of every distribution."""
    need(student_logits.shape == teacher_logits.shape == (*mask.shape, 2),
         f"logits in the shape (B, T, 2): student {student_logits.shape}, teacher {teacher_logits.shape}, "
         f"mask {mask.shape}")
    need(temperature > 0, f"a temperature above 0, got {temperature}")
    need(mask.any(axis=1).all(), "at least one real token in every sequence of the mask")
    return [(b, np.flatnonzero(mask[b] | (keys == "all")), side) for b in range(len(mask)) for side in (0, 1)]


def span(student_logits, teacher_logits, mask, *, temperature=2.0, keys="real"):
    """1/B sum_b 1/2 (T^2 KL_start + T^2 KL_end), over real positions; keys "all": over padding, too."""
    return temperature ** 2 / (2 * len(mask)) * sum(
        divergence(teacher_logits[b, seen, side], student_logits[b, seen, side], temperature)
        for b, seen, side in span_rows(student_logits, teacher_logits, mask, temperature, keys))


def span_gradient(upstream, student_logits, teacher_logits, mask, *, temperature=2.0, keys="real"):
    """dL/dz^S = T/(2B) (q - p)."""
    dz = np.zeros_like(student_logits)
    for b, seen, side in span_rows(student_logits, teacher_logits, mask, temperature, keys):
        p, q = (softmax_row(z[b, seen, side], temperature) for z in (teacher_logits, student_logits))
        dz[b, seen, side] = upstream * temperature / (2 * len(mask)) * (q - p)
    return {"student_logits": dz}


def with_hard_labels(student, teacher, labels, alpha, temperature):
    """alpha CE + (1 - alpha) T^2 KL, each a mean over the rows."""
    hard = -sum(log_softmax_row(z)[y] for z, y in zip(student, labels)) / len(labels)
    return alpha * hard + (1 - alpha) * soft_labels(student, teacher, temperature=temperature)
