"""TinyBERT: Transformer distillation (Jiao et al. 2020), equations 7 to 10, as printed.

    A      = Q K^T / sqrt(d_k)                              attention scores, not their softmax, eq. 1
    L_attn = 1/h sum_i MSE(A_i^S, A_i^T)                    eq. 7        dL/dA = 2 w / h (A^S - A^T)
    L_hidn = MSE(H^S W_h, H^T)                              eq. 8        gradients: `rows.py`
    L_embd = MSE(E^S W_e, E^T)                              eq. 9
    L_pred = CE(z^T / t, z^S / t)                           eq. 10       dL/dz = (q - p) / (t N): `soft_labels.py`

Of one sequence; a batch is the mean over its sequences, each without its padding. `attention_official` is what
published code computes. Shapes: A (B, h, T, T), H^S (B, T, d'), H^T (B, T, d), weight (d, d') (W_h transposed),
z (B, C), mask (B, T).

Traps
  - the scores are those before the softmax, and divided by sqrt(d_k)
  - published code adds -10000 to the scores of padded keys and then sets all scores <= -100 to 0, on both sides; it
    counts rows of padding, and divides by the keys that it set to 0
  - it averages the soft cross-entropy over the classes too, and has one W_h with bias for embeddings and all layers
  - CE has no factor t^2 here
"""

import numpy as np

from tinydistill_reference.conventions import need, weights
from tinydistill_reference.rows import mapped_squares, mapped_squares_gradient
from tinydistill_reference.soft_labels import soft_labels, soft_labels_gradient


def sizes(student, teacher, mask):
    """(B, h, T), after a look at the shapes."""
    B, h, T = student.shape[:3]
    need(student.shape == teacher.shape == (B, h, T, T) and mask.shape == (B, T),
         f"the same (B, A, T, T): student {student.shape}, teacher {teacher.shape}, mask {mask.shape}")
    return B, h, T


def pair_weights(student, teacher, mask, divisor):
    """(B, T, T): what multiplies the square of each pair of tokens of a head, 1/(B h n_b^2) or 1/(h sum_b n_b^2)."""
    B, h, T = sizes(student, teacher, mask)
    need(mask.any(axis=1).all(), "at least one real token in every sequence of the mask")
    pairs = (mask[:, :, None] & mask[:, None, :]).reshape(B, T * T)
    return weights(pairs, divisor=divisor).reshape(B, T, T) / h


def attention(student_scores, teacher_scores, mask, *, divisor="sequence"):
    """L_attn, equation 7, of one layer."""
    w = pair_weights(student_scores, teacher_scores, mask, divisor)
    return sum(w[b, t, s] * ((student_scores[b, :, t, s] - teacher_scores[b, :, t, s]) ** 2).sum()
               for b, t, s in zip(*np.nonzero(w)))


def attention_gradient(upstream, student_scores, teacher_scores, mask, *, divisor="sequence"):
    """dL/dA = 2 w (A^S - A^T)."""
    w = pair_weights(student_scores, teacher_scores, mask, divisor)
    dscores = np.zeros_like(student_scores)
    for b, t, s in zip(*np.nonzero(w)):
        dscores[b, :, t, s] = upstream * w[b, t, s] * 2 * (student_scores[b, :, t, s] - teacher_scores[b, :, t, s])
    return {"student_scores": dscores}


def clamped(scores, mask):
    """(c(A), where it is A itself): A - 10000 at padded keys, and 0 where that is -100 or less."""
    lowered = scores + np.where(mask, 0, -10000)[:, None, None, :].astype(scores.dtype)
    kept = lowered.real > -100
    return np.where(kept, lowered, 0), kept


def attention_official(student_scores, teacher_scores, mask):
    """1/(B h T^2) sum (c(A^S) - c(A^T))^2, over all entries."""
    B, h, T = sizes(student_scores, teacher_scores, mask)
    return ((clamped(student_scores, mask)[0] - clamped(teacher_scores, mask)[0]) ** 2).sum() / (B * h * T ** 2)


def attention_official_gradient(upstream, student_scores, teacher_scores, mask):
    """dL/dA = 2 / (B h T^2) (c(A^S) - c(A^T)) where c(A^S) was not set to 0."""
    B, h, T = sizes(student_scores, teacher_scores, mask)
    student, kept = clamped(student_scores, mask)
    error = student - clamped(teacher_scores, mask)[0]
    return {"student_scores": np.where(kept, upstream * 2 * error / (B * h * T ** 2), 0)}


def hidden(student_hidden, teacher_hidden, mask, weight=None, bias=0.0, **convention):
    """L_hidn, equation 8, of one layer."""
    return mapped_squares(student_hidden, teacher_hidden, mask, weight, bias, **convention)


def hidden_gradient(upstream, student_hidden, teacher_hidden, mask, weight=None, bias=0.0, **convention):
    """dL/dH, dL/dW, dL/dbias."""
    found = mapped_squares_gradient(upstream, student_hidden, teacher_hidden, mask, weight, bias, **convention)
    return dict(zip(("student_hidden", "weight", "bias"), found))


def embedding(student_embeddings, teacher_embeddings, mask, weight=None, bias=0.0, **convention):
    """L_embd, equation 9."""
    return mapped_squares(student_embeddings, teacher_embeddings, mask, weight, bias, **convention)


def embedding_gradient(upstream, student_embeddings, teacher_embeddings, mask, weight=None, bias=0.0, **convention):
    """dL/dE, dL/dW, dL/dbias."""
    found = mapped_squares_gradient(upstream, student_embeddings, teacher_embeddings, mask, weight, bias, **convention)
    return dict(zip(("student_embeddings", "weight", "bias"), found))


def prediction(student_logits, teacher_logits, *, temperature=1.0, temperature_squared=False, constant="cross-entropy",
               divisor="row"):
    """L_pred, equation 10."""
    return soft_labels(student_logits, teacher_logits, temperature=temperature, divisor=divisor,
                       temperature_squared=temperature_squared, constant=constant)


def prediction_gradient(upstream, student_logits, teacher_logits, *, temperature=1.0, temperature_squared=False,
                        constant="cross-entropy", divisor="row"):
    """dL/dz^S = (q - p) / (t N)."""
    return soft_labels_gradient(upstream, student_logits, teacher_logits, temperature=temperature, divisor=divisor,
                                temperature_squared=temperature_squared, constant=constant)
