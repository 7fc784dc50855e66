"""MobileBERT (Sun et al. 2020): feature map transfer, attention transfer, pre-training distillation.

    L_FMT     = 1/(T N) sum_t sum_n (H^T_tn - H^S_tn)^2             of one layer; gradient: `rows.py`
    L_AT      = 1/(T A) sum_t sum_a KL(a^T_at || a^S_at)            of one layer; dL/dscores = w (q - p)
    L_PD      = alpha CE(labels) + (1 - alpha) CE(teacher)          masked tokens, alpha = 1/2; dL/dz = w (q - target)

L_FMT, L_AT are unverified, from memory; published code splits the first in three, of H itself each:

    1/(T N) sum_t |LN(H^T_t) - LN(H^S_t)|^2    1/T sum_t (mean_t^T - mean_t^S)^2    1/T sum_t |var_t^T - var_t^S|

    d LN/dH: dx = (g - mean g - x^ mean(g x^)) / sqrt(var + 1e-12);   d mean/dH = 1/N;   d var/dH = 2 (H - mean) / N

A batch is the mean over sequences without padding, `official` takes padding too. Shapes: H (B, T, N), scores
(B, A, T, T), logits (M, V), labels (M,), -100 where there is none.

Traps
  - the difference of variances is absolute, not squared; they are over N, not N - 1; the layer norm has no scale
  - published code compares mean and variance with all layers of the teacher, has CE for KL, and N + 1e-5 for N labels
"""

import numpy as np

from tinydistill_reference.conventions import IGNORED, need, weights
from tinydistill_reference.minilm import rows_and_weights
from tinydistill_reference.rows import mean_squares, mean_squares_gradient, row_weights
from tinydistill_reference.soft_labels import divergence
from tinydistill_reference.softmax import log_softmax_row, softmax_row

EPS = 1e-12


def feature_map(student_hidden, teacher_hidden, mask, **convention):
    """L_FMT."""
    return mean_squares(student_hidden, teacher_hidden, mask, **convention)


def feature_map_gradient(upstream, student_hidden, teacher_hidden, mask, **convention):
    """dL/dH = 2 w / N (H^S - H^T)."""
    return {"student_hidden": mean_squares_gradient(upstream, student_hidden, teacher_hidden, mask, **convention)}


def means(hidden):
    """Of the N numbers of each token. Shapes: (B, T, N) -> (B, T, 1)."""
    return hidden.sum(axis=2, keepdims=True) / hidden.shape[2]


def variances(hidden):
    return means((hidden - means(hidden)) ** 2)


def normal(hidden):
    """x^: a layer norm without scale and shift."""
    return (hidden - means(hidden)) / np.sqrt(variances(hidden) + EPS)


def normalised(student_hidden, teacher_hidden, mask, **convention):
    """The first of the three: what a layer norm leaves."""
    return mean_squares(normal(student_hidden), normal(teacher_hidden), mask, **convention)


def normalised_gradient(upstream, student_hidden, teacher_hidden, mask, **convention):
    """dL/dH = (g - mean g - x^ mean(g x^)) / sqrt(var + 1e-12), g = 2 w / N (x^S - x^T)."""
    x = normal(student_hidden)
    g = mean_squares_gradient(upstream, x, normal(teacher_hidden), mask, **convention)
    return {"student_hidden": (g - means(g) - x * means(g * x)) / np.sqrt(variances(student_hidden) + EPS)}


def mean_transfer(student_hidden, teacher_hidden, mask, **convention):
    """The second: each token's mean."""
    row_weights(student_hidden, teacher_hidden, mask)                                   # for the look at the shapes
    return mean_squares(means(student_hidden), means(teacher_hidden), mask, **convention)


def mean_transfer_gradient(upstream, student_hidden, teacher_hidden, mask, **convention):
    """dL/dH = 2 w / N (mean^S - mean^T), the same for all numbers of a token."""
    g = mean_squares_gradient(upstream, means(student_hidden), means(teacher_hidden), mask, **convention)
    return {"student_hidden": np.repeat(g / student_hidden.shape[2], student_hidden.shape[2], axis=2)}


def variance_transfer(student_hidden, teacher_hidden, mask, **convention):
    """The third: each token's variance."""
    w = row_weights(student_hidden, teacher_hidden, mask, **convention)
    d = (variances(student_hidden) - variances(teacher_hidden))[:, :, 0]                # (B, T)
    return sum(w[n] * d[n] * sign(d[n]) for n in zip(*np.nonzero(w)))


def variance_transfer_gradient(upstream, student_hidden, teacher_hidden, mask, **convention):
    """dL/dH = +-2 w / N (H^S - mean), + where the student's variance is larger, 0 where they are equal."""
    w = row_weights(student_hidden, teacher_hidden, mask, **convention)
    d = (variances(student_hidden) - variances(teacher_hidden))[:, :, 0]                # (B, T)
    centred, dh = student_hidden - means(student_hidden), np.zeros_like(student_hidden)
    for n in zip(*np.nonzero(w)):
        dh[n] = upstream * w[n] * sign(d[n]) * 2 / student_hidden.shape[2] * centred[n]
    return {"student_hidden": dh}


def sign(x):
    return int(x.real > 0) - int(x.real < 0)


def attention(student_scores, teacher_scores, mask, *, rows="real", divisor="sequence", constant="kl"):
    """L_AT; constant "cross-entropy": the teacher's entropy is left in."""
    need(student_scores.shape == teacher_scores.shape,
         f"scores of one shape: student {student_scores.shape}, teacher {teacher_scores.shape}")
    return sum(w[i] * divergence(teacher_scores[b, a, t, keys], student_scores[b, a, t, keys], constant=constant)
               for b, a, keys, counted, w in rows_and_weights(student_scores, teacher_scores, mask, rows, divisor)
               for i, t in enumerate(counted))


def attention_gradient(upstream, student_scores, teacher_scores, mask, *, rows="real", divisor="sequence",
                       constant="kl"):
    """dL/dscores = w (q - p), for either constant."""
    dscores = np.zeros_like(student_scores)
    for b, a, keys, counted, w in rows_and_weights(student_scores, teacher_scores, mask, rows, divisor):
        for i, t in enumerate(counted):
            p, q = (softmax_row(scores[b, a, t, keys]) for scores in (teacher_scores, student_scores))
            dscores[b, a, t, keys] = upstream * w[i] * (q - p)
    return {"student_scores": dscores}


def targets(student_logits, teacher_logits, labels, ground_truth, epsilon):
    """(n, w, (1 - alpha) softmax(z^T) + alpha onehot) of every row with a label."""
    M, V = student_logits.shape
    need(teacher_logits.shape == (M, V) and labels.shape == (M,),
         f"logits of one shape and a label for each row: student {student_logits.shape}, "
         f"teacher {teacher_logits.shape}, labels {labels.shape}")
    need(((labels == IGNORED) | (labels >= 0) & (labels < V)).all(), f"labels from 0 to {V - 1}, or {IGNORED}")
    w = weights(labels != IGNORED, divisor="row", epsilon=epsilon)
    for n in np.flatnonzero(w):
        target = (1 - ground_truth) * softmax_row(teacher_logits[n])
        target[labels[n]] += ground_truth
        yield n, w[n], target


def pretraining(student_logits, teacher_logits, labels, *, ground_truth=0.5, epsilon=0.0):
    """L_PD without next sentences; alpha is ground_truth."""
    return -sum(w * sum(target * log_softmax_row(student_logits[n]))
                for n, w, target in targets(student_logits, teacher_logits, labels, ground_truth, epsilon))


def pretraining_gradient(upstream, student_logits, teacher_logits, labels, *, ground_truth=0.5, epsilon=0.0):
    """dL/dz^S = w (q - target)."""
    dz = np.zeros_like(student_logits)
    for n, w, target in targets(student_logits, teacher_logits, labels, ground_truth, epsilon):
        dz[n] = upstream * w * (softmax_row(student_logits[n]) - target)
    return {"student_logits": dz}
