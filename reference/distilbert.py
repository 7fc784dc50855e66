"""DistilBERT, a distilled version of BERT (Sanh, Debut, Chaumond and Wolf 2019), as its authors compute it.

    L     = 5 L_ce + 2 L_mlm + 1 L_cos                          the weights of the released model
    L_ce  = T^2 1/n sum_n KL(p_n || q_n)                        T = 2; `soft_labels` of the n real tokens
    L_mlm = -1/M sum_m log softmax(z_m)[y_m]                    over the M tokens with a label
    L_cos = 1/n sum_n (1 - cos(h^S_n, h^T_n))                   last hidden states of the n real tokens
    L_mse = 1/n sum_n sum_v (z^S_nv - z^T_nv)^2                 optional; `logits_mse` without 1/V

Shapes: hidden states (B, T, D); mask (B, T), True at real tokens; logits (N, V), labels (N,), -100 where there is none.

Traps
  - the paper prints L_ce without its minus sign, and as a cross-entropy; the code minimises the divergence
  - all real tokens count, not only the masked ones, unless --restrict_ce_to_mask
  - only the last hidden states, and only of equal widths
"""

import numpy as np

from tinydistill_reference.soft_labels import soft_labels, softmax_row


def cosine(student, teacher, mask):
    """L_cos."""
    total = 0
    for b, t in zip(*np.nonzero(mask)):
        s, h = student[b, t], teacher[b, t]
        dot, ss, hh = (sum(x * y for x, y in zip(*pair)) for pair in ((s, h), (s, s), (h, h)))
        total = total + 1 - dot / (np.sqrt(ss) * np.sqrt(hh))
    return total / mask.sum()


def masked_lm(logits, labels):
    """L_mlm."""
    rows = np.flatnonzero(labels != -100)
    return -sum(np.log(softmax_row(logits[m], 1)[labels[m]]) for m in rows) / len(rows)


def distilbert(student_logits, teacher_logits, student_hidden, teacher_hidden, mask, labels):
    """L. Shapes: logits (B, T, V), labels (B, T)."""
    V = student_logits.shape[2]
    student, teacher = student_logits.reshape(-1, V), teacher_logits.reshape(-1, V)     # (B*T, V)
    return (5 * soft_labels(student, teacher, mask.reshape(-1), 2) + 2 * masked_lm(student, labels.reshape(-1))
            + cosine(student_hidden, teacher_hidden, mask))
