"""FitNets: hints for thin deep nets (Romero et al. 2015), as printed: a hint in stage 1, soft targets in stage 2.

    L_HT = 1/2 || r(u_g(x); W_r) - u_h(x) ||^2                     r(h) = R h + c, with a learned regressor (R, c)
    L_KD = lam_target H(y, P_S) + lam_teach H(P^tau_T, P^tau_S)    P^tau = softmax(logits / tau)

    e = R h^S + c - h^T:    dL/dh^S = w R^T e,   dL/dR = sum w e h^S^T,   dL/dc = sum w e

u_h is the teacher's hint layer, u_g the student's guided one: here outputs of a Transformer's layer, for every token.
A batch is the mean over its real tokens, and over its rows of logits.

Traps
  - the square is summed over the teacher's width, not averaged
  - no tau^2 before the softened term: at tau = 3 its gradient is nine times smaller than with it
  - it is a cross-entropy, not a KL divergence: it does not end at 0
  - the regressor is thrown away after stage 1
"""

import numpy as np

from tinydistill_reference.conventions import need, weights
from tinydistill_reference.hard_labels import cross_entropy
from tinydistill_reference.soft_labels import soft_labels, soft_labels_gradient


def residuals(student_hidden, teacher_hidden, mask, weight, bias, rows):
    """[(place of a token that counts, its 1/N, e = R h^S + c - h^T)]."""
    need(student_hidden.shape[:2] == teacher_hidden.shape[:2] == mask.shape,
         f"the same shape (B, T): student {student_hidden.shape}, teacher {teacher_hidden.shape}, mask {mask.shape}")
    need(weight.shape == teacher_hidden.shape[2:] + student_hidden.shape[2:] and bias.shape == teacher_hidden.shape[2:],
         f"a regressor of the shape (D', D), (D',): weight {weight.shape}, bias {bias.shape}")
    need(mask.any(), "at least one real token in the mask")
    w = weights(mask, rows=rows)
    return [(n, w[n], weight @ student_hidden[n] + bias - teacher_hidden[n]) for n in zip(*np.nonzero(w))]


def hint(student_hidden, teacher_hidden, mask, weight, bias, *, rows="real"):
    """L_HT. Shapes: student (B, T, D), teacher (B, T, D'), mask (B, T), weight (D', D), bias (D',)."""
    return sum(w * (e * e).sum() / 2
               for _, w, e in residuals(student_hidden, teacher_hidden, mask, weight, bias, rows))


def hint_gradient(upstream, student_hidden, teacher_hidden, mask, weight, bias, *, rows="real"):
    """dL/dh^S = w R^T e, dL/dR = sum w e h^S^T, dL/dc = sum w e."""
    dh, dweight, dbias = np.zeros_like(student_hidden), np.zeros_like(weight), np.zeros_like(bias)
    for n, w, e in residuals(student_hidden, teacher_hidden, mask, weight, bias, rows):
        de = upstream * w * e
        dh[n] = weight.T @ de
        dweight += np.outer(de, student_hidden[n])
        dbias += de
    return {"student_hidden": dh, "weight": dweight, "bias": dbias}


def softened(student_logits, teacher_logits, *, temperature=3.0, divisor="row", temperature_squared=False,
             constant="cross-entropy"):
    """H(P^tau_T, P^tau_S), the mean over the rows. Shapes: (B, C)."""
    return soft_labels(student_logits, teacher_logits, temperature=temperature, divisor=divisor,
                       temperature_squared=temperature_squared, constant=constant)


def softened_gradient(upstream, student_logits, teacher_logits, *, temperature=3.0, divisor="row",
                      temperature_squared=False, constant="cross-entropy"):
    """dL/dz^S = (q - p) / (tau B)."""
    return soft_labels_gradient(upstream, student_logits, teacher_logits, temperature=temperature, divisor=divisor,
                                temperature_squared=temperature_squared, constant=constant)


def softened_cross_entropy(student_logits, teacher_logits, labels, lam_target, lam_teach, temperature):
    """L_KD."""
    return (lam_target * cross_entropy(student_logits, labels)
            + lam_teach * softened(student_logits, teacher_logits, temperature=temperature))
