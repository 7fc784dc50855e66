"""Label smoothing: the standard one (Szegedy et al. 2016) and the one of UniLM's code, sum by sum.

    standard    L = -1/N sum_n sum_c r_nc log q_nc                  r = 1 - eps + eps/V at the label, eps/V elsewhere
    UniLM       L = 1/N sum_n sum_c r_nc (log r_nc - log q_nc)      r = 1 - eps at the label, 0 at the pad,
                                                                    eps/(V - 2) elsewhere
    both        dL/dz_n = 1/N (q_n - r_n)

over the N rows that have a label. Shapes: logits (..., V); labels (...,), -100 where there is none; UniLM: or the pad.

Traps
  - UniLM's is a divergence: smaller by the entropy of r, and 0 at q = r; the gradient q - r is a cross-entropy's
  - they differ in r as well, so that no constant makes one the other
  - UniLM's pad is 0 whatever the vocabulary; its code divides by N + 1e-5
"""

import numpy as np

from tinydistill_reference.conventions import IGNORED, need
from tinydistill_reference.hard_labels import labelled_rows
from tinydistill_reference.softmax import log_softmax_row, softmax_row


def standard_row(label, V, smoothing):
    """r = (1 - eps) onehot + eps/V."""
    return (1 - smoothing) * (np.arange(V) == label) + smoothing / V


def unilm_row(label, V, smoothing, pad):
    """r = 1 - eps at the label, 0 at the pad, eps/(V - 2) elsewhere."""
    c = np.arange(V)
    return np.where(c == label, 1 - smoothing, np.where(c == pad, 0.0, smoothing / (V - 2)))


def rows_of(student_logits, labels, smoothing):
    need(0 <= smoothing < 1, f"a smoothing of at least 0 and below 1, got {smoothing}")
    return labelled_rows(student_logits, labels)


def without_pad(labels, pad):
    """The labels of UniLM: -100 at the pad."""
    return np.where(labels == pad, IGNORED, labels)


def label_smoothing(student_logits, labels, *, smoothing=0.1):
    """The cross-entropy with r; 0 where no row has a label."""
    rows, N = rows_of(student_logits, labels, smoothing)
    V = student_logits.shape[-1]
    return -sum(((standard_row(labels[n], V, smoothing) * log_softmax_row(student_logits[n])).sum() for n in rows),
                start=0.0) / N


def label_smoothing_gradient(upstream, student_logits, labels, *, smoothing=0.1):
    """dL/dz = (q - r) / N."""
    rows, N = rows_of(student_logits, labels, smoothing)
    dz, V = np.zeros_like(student_logits), student_logits.shape[-1]
    for n in rows:
        dz[n] = upstream / N * (softmax_row(student_logits[n]) - standard_row(labels[n], V, smoothing))
    return {"student_logits": dz}


def unilm(student_logits, labels, *, smoothing=0.1, pad=0, epsilon=0.0):
    """The divergence from r; epsilon is added to the divisor, 1e-5 in the published code."""
    labels, V = without_pad(labels, pad), student_logits.shape[-1]
    rows, N = rows_of(student_logits, labels, smoothing)
    total = 0.0
    for n in rows:
        r, log_q = unilm_row(labels[n], V, smoothing, pad), log_softmax_row(student_logits[n])
        total = total + sum(r[c] * (np.log(r[c]) - log_q[c]) for c in range(V) if r[c])
    return total / (N + epsilon)


def unilm_gradient(upstream, student_logits, labels, *, smoothing=0.1, pad=0, epsilon=0.0):
    """dL/dz = (q - r) / (N + epsilon)."""
    labels, V = without_pad(labels, pad), student_logits.shape[-1]
    rows, N = rows_of(student_logits, labels, smoothing)
    dz = np.zeros_like(student_logits)
    for n in rows:
        dz[n] = upstream / (N + epsilon) * (softmax_row(student_logits[n]) - unilm_row(labels[n], V, smoothing, pad))
    return {"student_logits": dz}
