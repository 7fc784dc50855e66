"""Knowledge distillation from internal representations (Aguilar et al. 2020): two losses.

    L_kl  = 1/A sum_a mean_t KL(a^T_at || a^S_at)       a_at the attention distribution of head a and query t
    L_cos = 1 - cos(h^T, h^S)                           h the [CLS] vector that a layer puts out

    dL_kl/ds_at = w (a^S_at - a^T_at)                   s the student's scores, w = 1/(A n_b B)
    dL_cos/dh^S = -1/B (u^T - cos u^S) / |h^S|          u = h / |h|

Both are unverified: written from memory. Whether L_kl sums over the queries or averages them is open; `divisor="none"`
is the former. A batch is the mean over its sequences. Shapes: scores (B, A, T, T), hidden (B, T, D), mask (B, T).

Traps
  - KL(teacher || student), not the other way round
  - padding is cut away as key and as query
  - [CLS] is position 0 of the layer's output, not the pooler's
"""

import numpy as np

from tinydistill_reference.conventions import need
from tinydistill_reference.distilbert import cosine_distance, cosine_distance_gradient
from tinydistill_reference.minilm import rows_and_weights
from tinydistill_reference.soft_labels import divergence
from tinydistill_reference.softmax import softmax_row


def distributions(student_scores, teacher_scores, mask, divisor):
    """[(b, a, t, the keys that are real, w)] of every distribution that counts."""
    need(student_scores.shape == teacher_scores.shape == student_scores.shape[:3] + mask.shape[1:],
         f"scores of the same shape (B, A, T, T): student {student_scores.shape}, teacher {teacher_scores.shape}")
    return [(b, a, t, keys, w) for b, a, keys, rows, ws in
            rows_and_weights(student_scores, teacher_scores, mask, "real", divisor) for t, w in zip(rows, ws)]


def attention(student_scores, teacher_scores, mask, *, divisor="sequence"):
    """L_kl; divisor "none": the sum over queries and sequences, the mean over heads."""
    return sum(w * divergence(teacher_scores[b, a, t, keys], student_scores[b, a, t, keys])
               for b, a, t, keys, w in distributions(student_scores, teacher_scores, mask, divisor))


def attention_gradient(upstream, student_scores, teacher_scores, mask, *, divisor="sequence"):
    """dL/ds = w (q - p)."""
    ds = np.zeros_like(student_scores)
    for b, a, t, keys, w in distributions(student_scores, teacher_scores, mask, divisor):
        p, q = softmax_row(teacher_scores[b, a, t, keys]), softmax_row(student_scores[b, a, t, keys])
        ds[b, a, t, keys] = upstream * w * (q - p)
    return {"student_scores": ds}


def need_cls(student_hidden, teacher_hidden, mask):
    need(student_hidden.shape == teacher_hidden.shape and mask.shape == student_hidden.shape[:2],
         f"the same shape (B, T, D): student {student_hidden.shape}, teacher {teacher_hidden.shape}, mask {mask.shape}")
    need(mask[:, 0].all(), "[CLS] at position 0 of every sequence of the mask")


def cosine(student_hidden, teacher_hidden, mask):
    """L_cos, the mean over the batch."""
    need_cls(student_hidden, teacher_hidden, mask)
    return sum(cosine_distance(s, t) for s, t in zip(student_hidden[:, 0], teacher_hidden[:, 0])) / len(mask)


def cosine_gradient(upstream, student_hidden, teacher_hidden, mask):
    """dL/dh^S = -1/B (u^T - cos u^S) / |h^S| at position 0."""
    need_cls(student_hidden, teacher_hidden, mask)
    dh = np.zeros_like(student_hidden)
    for b in range(len(mask)):
        dh[b, 0] = upstream / len(mask) * cosine_distance_gradient(student_hidden[b, 0], teacher_hidden[b, 0])
    return {"student_hidden": dh}
