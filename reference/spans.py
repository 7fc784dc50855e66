"""Answer spans (Devlin, Chang, Lee and Toutanova 2019, section 4.2), as printed.

    P_i = e^(S . T_i) / sum_j e^(S . T_j)           the probability that the answer starts at token i; E for its end
    L = -1/B sum_b 1/2 (log P_start + log P_end)
    dL/dz = 1/(2B) (P - onehot)

Shapes: logits (B, T, 2), that is S . T_i and E . T_i; labels (B, 2), -100 where there is none; mask (B, T).

Traps
  - the softmax runs over the tokens of a sequence, not over (start, end)
  - the paper knows no padding; published code lets it take part (`keys="all"`)
  - half of the sum: with both labels everywhere the divisor is 2B, over labels; published code divides by 2B whatever
    labels are missing (`rows="all"`)
"""

import numpy as np

from tinydistill_reference.conventions import IGNORED, need
from tinydistill_reference.softmax import log_softmax_row, softmax_row


def choices(student_logits, labels, mask, rows, keys):
    """([(b, side, the tokens to choose from, True at the right one)] of every label, what their sum is divided by)."""
    need(student_logits.shape == (*mask.shape, 2) and labels.shape == (len(mask), 2),
         f"logits (B, T, 2) and labels (B, 2) in shape: {student_logits.shape}, {labels.shape}, mask {mask.shape}")
    found = []
    for b, side in zip(*np.nonzero(labels != IGNORED)):
        tokens = np.flatnonzero(mask[b] | (keys == "all"))
        need(labels[b, side] in tokens, f"labels at tokens that take part; label {labels[b, side]} of sequence {b}")
        found.append((b, side, tokens, tokens == labels[b, side]))
    return found, labels.size if rows == "all" else max(1, len(found))


def positions(student_logits, labels, mask, *, rows="labelled", keys="real"):
    """L over all labels; 0 where there is none."""
    found, N = choices(student_logits, labels, mask, rows, keys)
    return -sum((log_softmax_row(student_logits[b, tokens, side])[right].sum() for b, side, tokens, right in found),
                start=0.0) / N


def positions_gradient(upstream, student_logits, labels, mask, *, rows="labelled", keys="real"):
    """dL/dz = (P - onehot) / N."""
    found, N = choices(student_logits, labels, mask, rows, keys)
    dz = np.zeros_like(student_logits)
    for b, side, tokens, right in found:
        dz[b, tokens, side] = upstream / N * (softmax_row(student_logits[b, tokens, side]) - right)
    return {"student_logits": dz}
