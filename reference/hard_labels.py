"""Cross-entropy with labels (Devlin, Chang, Lee and Toutanova 2019, sections 3.1 and 4), as printed.

    L = -1/N sum_n log softmax(z_n)[y_n]            over the N rows that have a label

Masked language modelling predicts the tokens that were hidden, next-sentence prediction whether the second sentence
follows the first, classification the class of a sequence. Pre-training adds the first two as they are.
Shapes: logits (rows, C), labels (rows,), -100 where there is none.

Traps
  - N counts labels, not tokens and not sequences: a batch's mean is no mean of its sequences' means
  - shards of a batch divide by the whole batch's N
"""

import numpy as np


def cross_entropy(logits, labels):
    """L over all rows that have a label."""
    total, count = 0, 0
    for z, y in zip(logits, labels):
        if y != -100:
            shifted = z - z.real.max()
            total = total - (shifted[y] - np.log(np.sum(np.exp(shifted))))
            count += 1
    return total / count
