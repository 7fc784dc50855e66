"""A linear map and the loss of its result, some rows at a time: (N, V) logits of a vocabulary are never stored whole.

    logits = x W^T + b    loss = sum_n l(logits_n)    G = dloss/dlogits    dx = G W    dW = G^T x    db = sum_n G_n

Every sum runs over rows, so it can be had chunk by chunk. The logits of a chunk live until the next one is computed, so
the forward takes their derivatives at once, those of the loss itself; the pullback only multiplies them by dy.
"""

from tinydistill import kernels
from tinydistill.backend import xp_of
from tinydistill.features import IGNORED
from tinydistill.ops.cross_entropy import check_labels
from tinydistill.ops.squared_error import rows_of
from tinydistill.tensor import op


@op
def linear_kl_divergence(hidden, weight, bias, teacher_hidden, teacher_weight, teacher_bias, *, row_weights,
                         temperature=1.0, rows_per_chunk=256):
    """sum_n row_weight_n KL(softmax(teacher_n / temperature) || softmax(student_n / temperature)), in nats, with
    student = hidden W^T + b and teacher = teacher_hidden W'^T + b', both computed `rows_per_chunk` rows at a time.

    Shapes: hidden (N, D), weight (V, D), bias (V,) or None; the teacher's with a D of its own; row_weights broadcasts
    against (N,), and a row of weight 0 counts nothing, whatever stands in it.
    Gradient: hidden, weight and bias; the teacher's three get none.
    """
    same = len(hidden) == len(teacher_hidden) and len(weight) == len(teacher_weight)
    if not same or not hidden.ndim == teacher_hidden.ndim == 2:
        raise ValueError(f"need hidden (N, D) and weight (V, D) of one N and V: student {hidden.shape} by "
                         f"{weight.shape}, teacher {teacher_hidden.shape} by {teacher_weight.shape}")
    kernel, row_weights = kernels.of(hidden), rows_of(row_weights, hidden)              # (N,)
    counted = row_weights != 0

    def divergence(logits, rows):
        teacher_logits = kernel.linear(_emptied(teacher_hidden, counted, rows), teacher_weight, teacher_bias)
        return kernel.kl_divergence(logits, teacher_logits, None, row_weights[rows], temperature)

    value, pullback = _by_chunks(hidden, weight, bias, counted, divergence, rows_per_chunk)
    return value, lambda dy: (*pullback(dy), None, None, None)


@op
def linear_cross_entropy(hidden, weight, bias, labels, *, rows_per_chunk=256):
    """`cross_entropy(linear(hidden, weight, bias), labels)`, computed `rows_per_chunk` rows at a time.

    Shapes: hidden (N, D), weight (V, D), bias (V,) or None, labels (N,) integers. Gradient: hidden, weight and bias.
    """
    if hidden.ndim != 2 or labels.shape != hidden.shape[:1]:
        raise ValueError(f"need hidden (N, D) and labels (N,): hidden {hidden.shape}, labels {labels.shape}")
    check_labels(labels, len(weight))
    kernel = kernels.of(hidden)

    def entropy(logits, rows):
        return kernel.cross_entropy(logits, labels[rows], IGNORED)

    value, pullback = _by_chunks(hidden, weight, bias, labels != IGNORED, entropy, rows_per_chunk)
    return value, lambda dy: (*pullback(dy), None)


def _by_chunks(hidden, weight, bias, counted, loss, rows_per_chunk):
    """(sum over chunks of loss(logits, rows), pullback to hidden, weight and bias).

    loss returns value and dlogits of these rows. counted (N,): False at rows that are out.
    """
    if rows_per_chunk < 1:
        raise ValueError(f"need at least 1 row a chunk, got {rows_per_chunk}")
    xp, kernel, N = xp_of(hidden), kernels.of(hidden), len(hidden)
    value = xp.zeros((), hidden.dtype)
    dhidden, dweight, dbias = xp.zeros_like(hidden), xp.zeros_like(weight), xp.zeros(len(weight), hidden.dtype)
    for first in range(0, N, rows_per_chunk):
        rows = slice(first, first + rows_per_chunk)
        x = _emptied(hidden, counted, rows)
        part, dlogits = loss(kernel.linear(x, weight, bias), rows)      # dlogits (rows, V)
        value = value + part
        dhidden[rows] = dlogits @ weight
        dweight += dlogits.T @ x
        dbias += kernel.row_sums(dlogits.T)
    return value, lambda dy: (dy * dhidden, dy * dweight, None if bias is None else dy * dbias)


def _emptied(x, counted, rows):
    """These rows of x, those that are out emptied, because 0 * NaN is NaN."""
    return xp_of(x).where(counted[rows, None], x[rows], 0)
