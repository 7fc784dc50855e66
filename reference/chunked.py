"""A linear map and the loss of its result, some rows at a time: the sums are those of all rows at once.

    z_n = W h_n + b             G_n = dL/dz_n
    L   = sum_n w_n KL(softmax(z'_n / T) || softmax(z_n / T))       G_n = w_n / T (q_n - p_n)       z' the teacher's
    L   = -sum_n log softmax(z_n)_label                             G_n = q_n - onehot
    dh_n = W^T G_n              dW = sum_n G_n h_n^T                db = sum_n G_n

Shapes: hidden h (N, D), weight W (V, D), bias b (V,), the teacher's with a D of its own, row_weights w (N,), labels
(N,), -100 where there is none. biased False: b and b' are left out, and have no gradient.

Traps
  - the last chunk is shorter than the others, and counts
  - gradients of weight and bias are summed over chunks, not overwritten by the last
  - both are sums: what they are divided by stands in the weights, or outside; a mean of chunks' means is another number
  - the teacher is constant
"""

import numpy as np

from tinydistill_reference.conventions import IGNORED, need
from tinydistill_reference.soft_labels import divergence
from tinydistill_reference.softmax import log_softmax_row, softmax_row


def logits_of(hidden, weight, bias, biased):
    """f(n) -> z_n."""
    return lambda n: weight @ hidden[n] + (bias if biased else 0)


def derived(G, hidden, weight, bias, biased):
    """dh, dW and db of {n: G_n}."""
    found = {"hidden": np.zeros_like(hidden), "weight": np.zeros_like(weight), "bias": np.zeros_like(bias)}
    for n, g in G.items():
        found["hidden"][n] = weight.T @ g
        found["weight"] += g[:, None] * hidden[n]
        found["bias"] += g if biased else 0
    return found


def counted(hidden, weight, teacher_hidden, teacher_weight, row_weights, rows_per_chunk):
    """The rows whose weight is not 0."""
    need(len(hidden) == len(teacher_hidden) and len(weight) == len(teacher_weight) and hidden.ndim == 2,
         f"hidden (N, D) and weight (V, D) of one N and V: student {hidden.shape} by {weight.shape}, "
         f"teacher {teacher_hidden.shape} by {teacher_weight.shape}")
    need(rows_per_chunk >= 1, f"at least 1 row a chunk, got {rows_per_chunk}")
    return np.flatnonzero(row_weights != 0).tolist()


def linear_kl_divergence(hidden, weight, bias, teacher_hidden, teacher_weight, teacher_bias, row_weights, *,
                         temperature=1.0, rows_per_chunk=256, biased=True):
    """sum_n w_n KL(p_n || q_n)."""
    rows = counted(hidden, weight, teacher_hidden, teacher_weight, row_weights, rows_per_chunk)
    student = logits_of(hidden, weight, bias, biased)
    teacher = logits_of(teacher_hidden, teacher_weight, teacher_bias, biased)
    return sum(row_weights[n] * divergence(teacher(n), student(n), temperature) for n in rows)


def linear_kl_divergence_gradient(upstream, hidden, weight, bias, teacher_hidden, teacher_weight, teacher_bias,
                                  row_weights, *, temperature=1.0, rows_per_chunk=256, biased=True):
    """G_n = w_n / T (q_n - p_n)."""
    rows = counted(hidden, weight, teacher_hidden, teacher_weight, row_weights, rows_per_chunk)
    student = logits_of(hidden, weight, bias, biased)
    teacher = logits_of(teacher_hidden, teacher_weight, teacher_bias, biased)
    G = {n: upstream * row_weights[n] / temperature * (softmax_row(student(n), temperature)
                                                       - softmax_row(teacher(n), temperature)) for n in rows}
    return derived(G, hidden, weight, bias, biased)


def labelled(hidden, weight, labels, rows_per_chunk):
    """The rows that have a label."""
    need(labels.shape == hidden.shape[:1],
         f"hidden (N, D) and labels (N,): hidden {hidden.shape}, labels {labels.shape}")
    need(((labels == IGNORED) | (labels >= 0) & (labels < len(weight))).all(),
         f"labels from 0 to {len(weight) - 1}, or {IGNORED}; got {labels}")
    need(rows_per_chunk >= 1, f"at least 1 row a chunk, got {rows_per_chunk}")
    return np.flatnonzero(labels != IGNORED).tolist()


def linear_cross_entropy(hidden, weight, bias, labels, *, rows_per_chunk=256, biased=True):
    """-sum_n log q_n[label_n]."""
    z = logits_of(hidden, weight, bias, biased)
    return -sum(log_softmax_row(z(n))[labels[n]] for n in labelled(hidden, weight, labels, rows_per_chunk))


def linear_cross_entropy_gradient(upstream, hidden, weight, bias, labels, *, rows_per_chunk=256, biased=True):
    """G_n = q_n - onehot."""
    z, V = logits_of(hidden, weight, bias, biased), len(weight)
    G = {n: upstream * (softmax_row(z(n)) - (np.arange(V) == labels[n]))
         for n in labelled(hidden, weight, labels, rows_per_chunk)}
    return derived(G, hidden, weight, bias, biased)
