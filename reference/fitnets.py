"""FitNets: hints for thin deep nets (Romero et al. 2015), as printed: a hint in stage 1, soft targets in stage 2.

    L_HT = 1/2 || r(u_g(x); W_r) - u_h(x) ||^2                     r(h) = R h + c, with a learned regressor (R, c)
    L_KD = lam_target H(y, P_S) + lam_teach H(P^tau_T, P^tau_S)    P^tau = softmax(logits / tau)

u_h is the teacher's hint layer, u_g the student's guided one: here outputs of a Transformer's layer, for every token.
A batch is the mean over its real tokens, and over its rows of logits.

Traps
  - the square is summed over the teacher's width, not averaged
  - no tau^2 before the softened term: at tau = 3 its gradient is nine times smaller than with it
  - it is a cross-entropy, not a KL divergence: it does not end at 0
  - the regressor is thrown away after stage 1
"""

import numpy as np


def hint_loss(student, teacher, mask, R, c):
    """L_HT. Shapes: student (B, T, D), teacher (B, T, D'), mask (B, T), R (D', D), c (D',)."""
    total = 0
    for b, t in np.argwhere(mask):
        residual = [sum(R[i] * student[b, t]) + c[i] - teacher[b, t, i] for i in range(len(c))]
        total = total + sum(e * e for e in residual) / 2
    return total / mask.sum()


def softmax_row(logits):
    """exp(z_j) / sum_k exp(z_k), for one row."""
    e = np.exp(logits - logits.real.max())
    return e / e.sum()


def softened_cross_entropy(student, teacher, labels, lam_target, lam_teach, tau):
    """L_KD. Shapes: student, teacher (N, C), labels (N,)."""
    total = 0
    for s, t, y in zip(student, teacher, labels):
        total = total - lam_target * np.log(softmax_row(s)[y])
        total = total - lam_teach * sum(softmax_row(t / tau) * np.log(softmax_row(s / tau)))
    return total / len(student)
