"""TinyBERT: Transformer distillation (Jiao et al. 2020), equations 7 to 10, as printed.

    A      = Q K^T / sqrt(d_k)                              attention scores, not their softmax, eq. 1
    L_attn = 1/h sum_i MSE(A_i^S, A_i^T)                    eq. 7
    L_hidn = MSE(H^S W_h, H^T)                              eq. 8
    L_embd = MSE(E^S W_e, E^T)                              eq. 9
    L_pred = CE(z^T / t, z^S / t)                           eq. 10

Of one sequence; a batch is the mean over its sequences, each without its padding. `official` is what published code
computes. Shapes: A (B, h, T, T), H^S (B, T, d'), W_h (d', d), H^T (B, T, d), z (B, C), mask (B, T).

Traps
  - the scores are those before the softmax, and divided by sqrt(d_k)
  - published code adds -10000 to the scores of padded keys and then sets all scores <= -100 to 0, on both sides; it
    counts rows of padding, and divides by the keys that it set to 0
  - it averages the soft cross-entropy over the classes too, and has one W_h with bias for embeddings and all layers
  - CE has no factor t^2 here
"""

import numpy as np


def attention(student, teacher, mask):
    """L_attn, equation 7, of one layer."""
    total = 0
    for b, real in enumerate(map(np.flatnonzero, mask)):
        for i in range(student.shape[1]):
            total = total + sum((student[b, i, t, s] - teacher[b, i, t, s]) ** 2 for t in real for s in real) \
                / (len(real) ** 2 * student.shape[1])
    return total / len(mask)


def attention_official(student, teacher, mask):
    """The mean over all B h T T entries, those of -100 and less being 0."""
    lowered = [x + np.where(mask, 0, -10000)[:, None, None, :] for x in (student, teacher)]
    student, teacher = (np.where(x.real <= -100, 0, x) for x in lowered)
    return ((student - teacher) ** 2).sum() / student.size


def hidden(student, teacher, mask, w=None, bias=0, official=False):
    """L_hidn or L_embd, equations 8 and 9, of one layer."""
    B, T, d = teacher.shape
    rows = [[((student[b, t] if w is None else student[b, t] @ w) + bias - teacher[b, t]) ** 2 for t in range(T)]
            for b in range(B)]
    if official:
        return sum(sum(rows[b][t]) for b in range(B) for t in range(T)) / (B * T * d)
    return sum(sum(sum(rows[b][t]) for t in np.flatnonzero(mask[b])) / (mask[b].sum() * d) for b in range(B)) / B


def prediction(student, teacher, t=1.0, official=False):
    """L_pred, equation 10."""
    total = 0
    for z_s, z_t in zip(student / t, teacher / t):
        p = np.exp(z_t - z_t.max()) / np.exp(z_t - z_t.max()).sum()
        total = total - sum(p * (z_s - np.log(np.exp(z_s - z_s.real.max()).sum()) - z_s.real.max()))
    return total / (student.size if official else len(student))
