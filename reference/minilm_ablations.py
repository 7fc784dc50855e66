"""MiniLM's ablations: what was tried in the place of the value relation (Wang et al. 2020, section 4).

    L_MSE     = 1/(|x| D) sum_t sum_j ((W v^S_t)_j - v^T_{t,j})^2        v_t the values of all heads of token t
    HR        = softmax(H H^T / sqrt(D)),   with sqrt(D') for the student
    L_HR      = 1/|x| sum_t KL(HR^T_t || HR^S_t)

of the last layers; a batch is the mean over its sequences. W (D, D') is learned. The gradients are those of `rows.py`,
cut back into heads, and of `minilm.py`, for one head. Shapes: v (B, A_h, T, d_k), h (B, T, D), mask (B, T). Unverified:
that W maps all heads at once, and the one head and the scale of HR.

Traps
  - W belongs to the method: it is trained with the student and thrown away
  - the mean of L_MSE is over the teacher's width, D
"""

from tinydistill_reference.minilm import transfer, transfer_gradient
from tinydistill_reference.minilm_v2 import joined
from tinydistill_reference.rows import mapped_squares, mapped_squares_gradient


def value_error(student_values, teacher_values, mask, weight, bias=0.0, **convention):
    """L_MSE."""
    return mapped_squares(joined(student_values), joined(teacher_values), mask, weight, bias, **convention)


def value_error_gradient(upstream, student_values, teacher_values, mask, weight, bias=0.0, **convention):
    """dL/dv = W^T E, dL/dW = sum_t E v^T, with E = 2 w / D (W v^S - v^T)."""
    B, A_h, T, d_k = student_values.shape
    dv, dweight, dbias = mapped_squares_gradient(upstream, joined(student_values), joined(teacher_values), mask, weight,
                                                 bias, **convention)
    dv = dv.reshape(B, T, A_h, d_k).transpose(0, 2, 1, 3)                               # (B, A_h, T, d_k)
    return {"student_values": dv, "weight": dweight, "bias": dbias}


def hidden_relation_transfer(student_hidden, teacher_hidden, mask, **convention):
    """L_HR."""
    student, teacher = student_hidden[:, None], teacher_hidden[:, None]                 # (B, 1, T, D): one head
    return transfer(student, student, teacher, teacher, mask, **convention)


def hidden_relation_transfer_gradient(upstream, student_hidden, teacher_hidden, mask, **convention):
    """dL/dH = (G + G^T) H / sqrt(D'), G = w (q - p)."""
    student, teacher = student_hidden[:, None], teacher_hidden[:, None]                 # (B, 1, T, D)
    dx, dy = transfer_gradient(upstream, student, student, teacher, teacher, mask, **convention)
    return {"student_hidden": (dx + dy)[:, 0]}
