"""Kullback-Leibler divergence of two rows of logits: the sum under MiniLM, soft labels and attention transfer.

    value = sum_rows w_row KL(p || q)      p = softmax(teacher / temperature, mask)      q = softmax(student / temperature, mask)
    KL(p || q) = sum_j p_j (log p_j - log q_j)                   dvalue/dstudent = w_row / temperature * (q - p)

Shapes: student, teacher (..., T); mask broadcasts against them, True where a class counts, or None; weight (...,).
A row of weight 0 counts nothing, whatever stands in it. Neither side ever stores log 0: p_j = 0 adds 0.
"""

import numpy as np

from tinydistill.backend import xp_of
from tinydistill.kernels.row_sums import row_sums_numpy
from tinydistill.kernels.softmax import log_softmax


def kl_divergence(student, teacher, mask, weight, temperature):
    """Returns the value and its gradient towards the student's logits, which comes out of the same pass."""
    xp = xp_of(student)
    seen = weight[..., None] != 0 if mask is None else mask & (weight[..., None] != 0)
    log_p = log_softmax(teacher / temperature, seen)
    log_q = log_softmax(student / temperature, seen)
    p = xp.where(seen, xp.exp(log_p), 0)
    q = xp.where(seen, xp.exp(log_q), 0)
    value = (weight * (p * (log_p - log_q)).sum(axis=-1)).sum()
    return value, (weight / temperature)[..., None] * (q - p)


def entropy(teacher, mask, weight, temperature):
    """sum_rows w_row H(p), H(p) = -sum_j p_j log p_j: what a cross-entropy is larger than KL by, and no gradient."""
    xp = xp_of(teacher)
    seen = weight[..., None] != 0 if mask is None else mask & (weight[..., None] != 0)
    log_p = log_softmax(teacher / temperature, seen)
    return -(weight * xp.where(seen, xp.exp(log_p) * log_p, 0).sum(axis=-1)).sum()


# ---------------------------------------------------------------- fused NumPy: four buffers instead of a dozen

def kl_divergence_numpy(student, teacher, mask, weight, temperature):
    """The same sums, log q and log p never stored: with e^a = exp of shifted scores and s = its row sum,

        KL = sum_j p_j (a_j - b_j) + log s_q - log s_p       a teacher, b student, each shifted by its row's maximum
    """
    seen = weight[..., None] != 0 if mask is None else mask & (weight[..., None] != 0)
    difference, p, teacher_total = _shifted_exp(teacher, seen, temperature)
    shifted, q, student_total = _shifted_exp(student, seen, temperature)
    p *= (1 / teacher_total)[..., None]
    q *= (1 / student_total)[..., None]
    difference -= shifted
    rows = np.vecdot(p, difference)
    rows += np.log(student_total)
    rows -= np.log(teacher_total)
    rows *= weight                                  # a row of weight 0 holds log 1 - log 1 = 0: nothing to hide
    q -= p
    q *= (weight / student.dtype.type(temperature))[..., None]
    return rows.sum(), q


def _shifted_exp(logits, seen, temperature):
    """Shifted logits (0 where masked), their exponentials (0 where masked) and the row sums (1 for an empty row)."""
    shifted = np.where(seen, logits, logits.dtype.type(-np.inf))
    peak = shifted.max(axis=-1, keepdims=True)
    peak[peak == -np.inf] = 0
    shifted -= peak
    if temperature != 1:
        shifted *= logits.dtype.type(1 / temperature)
    e = np.exp(shifted)
    total = row_sums_numpy(e)
    total = np.where(total == 0, 1, total)
    np.copyto(shifted, 0, where=~seen)              # p_j = 0 times -inf would be NaN
    return shifted, e, total
