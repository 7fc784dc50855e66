"""DistilBERT, a distilled version of BERT (Sanh, Debut, Chaumond and Wolf 2019), as its authors compute it.

    L     = 5 L_ce + 2 L_mlm + 1 L_cos                          the weights of the released model
    L_ce  = T^2 1/n sum_n KL(p_n || q_n)                        T = 2; `soft_labels` of the n real tokens
    L_mlm = -1/M sum_m log softmax(z_m)[y_m]                    over the M tokens with a label: `hard_labels`
    L_cos = 1/n sum_n (1 - cos(h^S_n, h^T_n))                   last hidden states of the n real tokens
    L_mse = 1/n sum_n sum_v (z^S_nv - z^T_nv)^2                 optional; `soft_labels.logits_mse` without 1/V

    dL_cos/dh^S_n = -1/n (u^T - cos u^S) / |h^S_n|              u = h / |h|, 0 where h is 0

Shapes: hidden (B, T, D); logits (B, T, V); mask (B, T), True at real tokens; labels (B, T), -100 where there is none.

Traps
  - the paper prints L_ce without its minus sign, and as a cross-entropy; the code minimises the divergence
  - all real tokens count, not only the masked ones, unless --restrict_ce_to_mask
  - only the last hidden states, and only of equal widths
"""

import numpy as np

from tinydistill_reference.conventions import need, weights
from tinydistill_reference.hard_labels import cross_entropy
from tinydistill_reference.soft_labels import soft_labels


def direction(h):
    """(h / |h|, |h|) of one vector; 0 has no direction, and cosine 0 with all others."""
    length = np.sqrt((h * h).sum())
    return (h / length if length != 0 else h), length


def cosine_distance(student_h, teacher_h):
    """1 - cos of two vectors."""
    return 1.0 - (direction(student_h)[0] * direction(teacher_h)[0]).sum()


def cosine_distance_gradient(student_h, teacher_h):
    """d(1 - cos)/dh^S = -(u^T - cos u^S) / |h^S|; 0 where h^S is 0."""
    (u, length), (v, _) = direction(student_h), direction(teacher_h)
    return ((u * v).sum() * u - v) / length if length != 0 else 0 * v


def cosine_weights(student_hidden, teacher_hidden, mask, divisor):
    """1/n of every real token."""
    need(student_hidden.shape == teacher_hidden.shape and mask.shape == student_hidden.shape[:2],
         f"the same shape (B, T, D): student {student_hidden.shape}, teacher {teacher_hidden.shape}, mask {mask.shape}")
    need(mask.any(), "at least one real token in the mask")
    return weights(mask, divisor=divisor)


def cosine(student_hidden, teacher_hidden, mask, *, divisor="row"):
    """L_cos."""
    w = cosine_weights(student_hidden, teacher_hidden, mask, divisor)
    return sum(w[n] * cosine_distance(student_hidden[n], teacher_hidden[n]) for n in zip(*np.nonzero(w)))


def cosine_gradient(upstream, student_hidden, teacher_hidden, mask, *, divisor="row"):
    """dL/dh^S = -w (u^T - cos u^S) / |h^S|."""
    w, dh = cosine_weights(student_hidden, teacher_hidden, mask, divisor), np.zeros_like(student_hidden)
    for n in zip(*np.nonzero(w)):
        dh[n] = upstream * w[n] * cosine_distance_gradient(student_hidden[n], teacher_hidden[n])
    return {"student_hidden": dh}


def distilbert(student_logits, teacher_logits, student_hidden, teacher_hidden, mask, labels):
    """L."""
    return (5 * soft_labels(student_logits, teacher_logits, mask, temperature=2.0)
            + 2 * cross_entropy(student_logits, labels) + cosine(student_hidden, teacher_hidden, mask))
