"""MiniLM's ablations: what was tried in the place of the value relation (Wang et al. 2020, section 4).

    L_MSE     = 1/(|x| D) sum_t sum_j ((W v^S_t)_j - v^T_{t,j})^2        v_t the values of all heads of token t
    HR        = softmax(H H^T / sqrt(D)),   with sqrt(D') for the student
    L_HR      = 1/|x| sum_t KL(HR^T_t || HR^S_t)

of the last layers; a batch is the mean over its sequences. W (D, D') is learned. Shapes: v (B, A_h, T, d_k),
h (B, T, D), mask (B, T). Unverified: that W maps all heads at once, and the one head and the scale of HR.

Traps
  - W belongs to the method: it is trained with the student and thrown away
  - the mean of L_MSE is over the teacher's width, D
"""

import numpy as np

from tinydistill_reference.minilm import transfer


def value_error(student_v, teacher_v, mask, W):
    """L_MSE."""
    B, D, total = len(mask), len(W), 0
    for b in range(B):
        real = np.flatnonzero(mask[b])
        for t in real:
            error = W @ np.concatenate(student_v[b, :, t]) - np.concatenate(teacher_v[b, :, t])
            total = total + sum(error[j] ** 2 for j in range(D)) / (len(real) * D * B)
    return total


def hidden_relation_transfer(student_h, teacher_h, mask):
    """L_HR."""
    student_h, teacher_h = student_h[:, None], teacher_h[:, None]       # (B, 1, T, D): one head
    return transfer(teacher_h, teacher_h, student_h, student_h, mask)
