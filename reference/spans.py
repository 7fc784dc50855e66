"""Answer spans (Devlin, Chang, Lee and Toutanova 2019, section 4.2), as printed.

    P_i = e^(S . T_i) / sum_j e^(S . T_j)           the probability that the answer starts at token i; E for its end
    L = -1/B sum_b 1/2 (log P_start + log P_end)

Shapes: logits (B, T, 2), that is S . T_i and E . T_i; labels (B, 2), -100 where there is none; mask (B, T).

Traps
  - the softmax runs over the tokens of a sequence, not over (start, end)
  - the paper knows no padding; published code lets it take part (`padding=True`)
  - half of the sum: with both labels everywhere the divisor is 2B, over labels; published code divides by 2B whatever
    labels are missing (`missing=True`)
"""

import numpy as np


def spans(logits, labels, mask, padding=False, missing=False):
    """L over all labels."""
    total, count = 0, 0
    for z, answer, real in zip(logits, labels, mask):
        tokens = [t for t in range(len(z)) if real[t] or padding]
        for end in (0, 1):
            count += missing or answer[end] != -100
            if answer[end] != -100:
                peak = max(z[t, end].real for t in tokens)
                total = total - (z[answer[end], end] - peak - np.log(sum(np.exp(z[t, end] - peak) for t in tokens)))
    return total / count
