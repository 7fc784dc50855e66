"""Knowledge distillation from internal representations (Aguilar et al. 2020): two losses.

    L_kl  = 1/A sum_a mean_t KL(a^T_at || a^S_at)       a_at the attention distribution of head a and query t
    L_cos = 1 - cos(h^T, h^S)                           h the [CLS] vector that a layer puts out

Both are unverified: written from memory. Whether L_kl sums over the queries or averages them is open; `summed` is the
former. A batch is the mean over its sequences. Shapes: scores (B, A, T, T), hidden (B, T, D), mask (B, T).

Traps
  - KL(teacher || student), not the other way round
  - padding is cut away as key and as query
  - [CLS] is position 0 of the layer's output, not the pooler's
"""

import numpy as np


def softmax_row(scores):
    """exp(s_j) / sum_k exp(s_k), for one row."""
    e = np.exp(scores - scores.real.max())
    return e / e.sum()


def attention_divergence(student_scores, teacher_scores, mask, summed=False):
    """L_kl; summed: the sum over queries and sequences, the mean over heads."""
    B, A = student_scores.shape[:2]
    total = 0
    for b in range(B):
        real = np.flatnonzero(mask[b])
        for a in range(A):
            for t in real:
                p = softmax_row(teacher_scores[b, a, t, real])
                q = softmax_row(student_scores[b, a, t, real])
                divergence = sum(p * (np.log(p) - np.log(q))) / A
                total = total + (divergence if summed else divergence / (len(real) * B))
    return total


def cosine_distance(student, teacher):
    """L_cos, the mean over the batch."""
    total = 0
    for s, t in zip(student[:, 0], teacher[:, 0]):
        total = total + 1 - sum(s * t) / (np.sqrt(sum(s * s)) * np.sqrt(sum(t * t)))
    return total / len(student)
