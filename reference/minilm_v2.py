"""MiniLMv2: multi-head self-attention relation distillation (Wang et al. 2021).

    X         = [X_1; ...; X_{A_h}]                      the heads of a token side by side: |x| rows of D entries
    X         = [X^1; ...; X^R]                          cut anew into R relation heads of d_r = D/R entries
    R_r       = softmax(X^r X^rT / sqrt(d_r))            with d'_r = D'/R for the student
    L_XX      = 1/(R |x|) sum_r sum_t KL(R^T_{r,t} || R^S_{r,t})            X = Q, K or V
    L         = L_QQ + L_KK + L_VV                       weights 1, as bloomberg/minilmv2.bb has them

    dL/dX     = (G + G^T) X / sqrt(d'_r) in relation heads, G = w (q - p); then joined and cut into heads again

A batch is the mean over its sequences, as in MiniLM. Shapes: x (B, A_h, T, d_k), A_h and d_k of each its own.

Traps
  - heads are joined token by token: cutting (A_h, T, d_k) into R heads without that mixes tokens
  - the scale is sqrt of the size of a relation head, not of an attention head
  - R has to divide both widths, D and D'
"""

from tinydistill_reference.conventions import need
from tinydistill_reference.minilm import transfer, transfer_gradient


def joined(x):
    """The heads of each token side by side. Shapes: (B, A_h, T, d_k) -> (B, T, D)."""
    B, A_h, T, d_k = x.shape
    return x.transpose(0, 2, 1, 3).reshape(B, T, A_h * d_k)


def relation_heads(x, R):
    """The same numbers in R heads. Shapes: (B, A_h, T, d_k) -> (B, R, T, d_r)."""
    B, T, D = joined(x).shape
    need(R >= 1 and D % R == 0, f"a number of relation heads that divides the width: {R} relation heads, width {D}")
    return joined(x).reshape(B, T, R, D // R).transpose(0, 2, 1, 3)


def relation_transfer(student_x, teacher_x, mask, R, **convention):
    """L_XX."""
    student, teacher = relation_heads(student_x, R), relation_heads(teacher_x, R)
    return transfer(student, student, teacher, teacher, mask, **convention)


def relation_transfer_gradient(upstream, student_x, teacher_x, mask, R, **convention):
    """dL_XX/dX of the student: X stands on both sides, and is cut back into the heads that it came in."""
    student, teacher = relation_heads(student_x, R), relation_heads(teacher_x, R)
    dx, dy = transfer_gradient(upstream, student, student, teacher, teacher, mask, **convention)
    return relation_heads(dx + dy, student_x.shape[1])


def minilm_v2(student_q, student_k, student_v, teacher_q, teacher_k, teacher_v, mask, R):
    """L."""
    return (relation_transfer(student_q, teacher_q, mask, R) + relation_transfer(student_k, teacher_k, mask, R)
            + relation_transfer(student_v, teacher_v, mask, R))
