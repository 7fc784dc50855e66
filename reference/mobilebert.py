"""MobileBERT (Sun et al. 2020): feature map transfer, attention transfer, pre-training distillation.

    L_FMT = 1/(T N) sum_t sum_n (H^T_tn - H^S_tn)^2                 of one layer
    L_AT  = 1/(T A) sum_t sum_a KL(a^T_at || a^S_at)                of one layer
    L_PD  = alpha CE(labels) + (1 - alpha) CE(teacher)              over masked tokens, alpha = 1/2

L_FMT, L_AT are unverified, from memory; published code splits the first in three. A batch is the mean over sequences
without padding, `official` takes padding too. Shapes: H (B, T, N), scores (B, A, T, T), logits (M, V), labels (M,).

Traps
  - the difference of variances is absolute, not squared; they are over N, not N - 1; the layer norm has no scale
  - published code compares mean and variance with all layers of the teacher, has CE for KL, and N + 1e-5 for N labels
"""

import numpy as np


def averaged(of_row, mask, official):
    """The mean of of_row(b, t) over the tokens of a sequence, then over the batch; official: padding is one, too."""
    return np.mean([np.mean([of_row(b, t) for t in np.flatnonzero(mask[b] | official)]) for b in range(len(mask))])


def feature_map(student, teacher, mask, official=False):
    return averaged(lambda b, t: np.mean((student[b, t] - teacher[b, t]) ** 2), mask, official)


def variance(row):
    return np.mean((row - np.mean(row)) ** 2)


def normalised(student, teacher, mask, official=False):
    normal = [np.apply_along_axis(lambda row: (row - np.mean(row)) / np.sqrt(variance(row) + 1e-12), 2, x)
              for x in (student, teacher)]
    return feature_map(*normal, mask, official)


def mean_transfer(student, teacher, mask, official=False):
    return averaged(lambda b, t: (np.mean(student[b, t]) - np.mean(teacher[b, t])) ** 2, mask, official)


def variance_transfer(student, teacher, mask, official=False):
    d = [[variance(s) - variance(t) for s, t in zip(*rows)] for rows in zip(student, teacher)]
    return averaged(lambda b, t: d[b][t] * np.sign(d[b][t].real), mask, official)


def log_softmax(z):
    return z - np.log(sum(np.exp(z)))


def attention(student, teacher, mask, official=False):
    def of_row(b, t):
        rows = ([log_softmax(head[t, mask[b]]) for head in x[b]] for x in (student, teacher))
        return np.mean([sum(np.exp(log_p) * ((not official) * log_p - log_q)) for log_q, log_p in zip(*rows)])
    return averaged(of_row, mask, official)


def pretraining(student, teacher, labels, alpha=0.5, official=False):
    rows = np.flatnonzero(labels != -100)
    each = [(log_softmax(student[n]), np.exp(log_softmax(teacher[n])), labels[n]) for n in rows]
    return sum((alpha - 1) * sum(p * log_q) - alpha * log_q[y] for log_q, p, y in each) / (len(rows) + 1e-5 * official)
