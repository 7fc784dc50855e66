"""MiniLMv2: multi-head self-attention relation distillation (Wang et al. 2021).

    X         = [X_1; ...; X_{A_h}]                      the heads of a token side by side: |x| rows of D entries
    X         = [X^1; ...; X^R]                          cut anew into R relation heads of d_r = D/R entries
    R_r       = softmax(X^r X^rT / sqrt(d_r))            with d'_r = D'/R for the student
    L_XX      = 1/(R |x|) sum_r sum_t KL(R^T_{r,t} || R^S_{r,t})            X = Q, K or V
    L         = L_QQ + L_KK + L_VV                       weights 1, as bloomberg/minilmv2.bb has them

A batch is the mean over its sequences, as in MiniLM. Shapes: x (B, A_h, T, d_k), A_h and d_k of each its own.

Traps
  - heads are joined token by token: cutting (A_h, T, d_k) into R heads without that mixes tokens
  - the scale is sqrt of the size of a relation head, not of an attention head
  - R has to divide both widths, D and D'
"""

import numpy as np

from tinydistill_reference.minilm import transfer


def relation_heads(x, R):
    """The same numbers in R heads. Shapes: (B, A_h, T, d_k) -> (B, R, T, d_r)."""
    B, A_h, T, d_k = x.shape
    d_r = A_h * d_k // R
    result = np.zeros((B, R, T, d_r), x.dtype)
    for b in range(B):
        for t in range(T):
            token = np.concatenate([x[b, a, t] for a in range(A_h)])
            for r in range(R):
                result[b, r, t] = token[r * d_r:(r + 1) * d_r]
    return result


def relation_transfer(student_x, teacher_x, mask, R, convention="paper"):
    """L_XX."""
    student, teacher = relation_heads(student_x, R), relation_heads(teacher_x, R)
    return transfer(teacher, teacher, student, student, mask, convention)


def minilm_v2(student_q, student_k, student_v, teacher_q, teacher_k, teacher_v, mask, R):
    """L."""
    return (relation_transfer(student_q, teacher_q, mask, R) + relation_transfer(student_k, teacher_k, mask, R)
            + relation_transfer(student_v, teacher_v, mask, R))
