"""Cross-entropy with labels (Devlin, Chang, Lee and Toutanova 2019, sections 3.1 and 4), as printed.

    L       = -1/N sum_n log softmax(z_n)[y_n]          over the N rows that have a label
    dL/dz_n = 1/N (softmax(z_n) - onehot(y_n))

Masked language modelling predicts the tokens that were hidden, next-sentence prediction whether the second sentence
follows the first (label 0: it does), classification the class of a sequence. Pre-training adds up the first two.
Shapes: logits (..., C), labels (...,), -100 where there is none.

Traps
  - N counts labels, not tokens and not sequences: a batch's mean is no mean of its sequences' means
  - shards of a batch divide by the whole batch's N
  - 0 is a label: of a token, of a class, and of a sentence that follows
"""

import numpy as np

from tinydistill_reference.conventions import IGNORED, need
from tinydistill_reference.softmax import log_softmax_row, softmax_row


def labelled_rows(student_logits, labels):
    """(places of the rows that have a label, N)."""
    C = student_logits.shape[-1]
    need(labels.shape == student_logits.shape[:-1],
         f"labels in the shape of the logits' rows: logits {student_logits.shape}, labels {labels.shape}")
    need(((labels == IGNORED) | ((0 <= labels) & (labels < C))).all(), f"labels from 0 to {C - 1}, or {IGNORED}")
    rows = list(zip(*np.nonzero(labels != IGNORED)))
    return rows, max(1, len(rows))


def cross_entropy(student_logits, labels):
    """L; 0 where no row has a label."""
    rows, N = labelled_rows(student_logits, labels)
    return -sum((log_softmax_row(student_logits[n])[labels[n]] for n in rows), start=0.0) / N


def cross_entropy_gradient(upstream, student_logits, labels):
    """dL/dz = (softmax - onehot) / N in rows with a label."""
    rows, N = labelled_rows(student_logits, labels)
    dz = np.zeros_like(student_logits)
    for n in rows:
        onehot = np.arange(student_logits.shape[-1]) == labels[n]
        dz[n] = upstream / N * (softmax_row(student_logits[n]) - onehot)
    return {"student_logits": dz}
