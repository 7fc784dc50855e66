"""Small and practical BERT models for sequence labeling (Tsai et al. 2019). Unverified: the formula is from memory.

    L = -sum_n m_n sum_c p_nc log q_nc / sum_n m_n          m_n = 1 at the first piece of each word, else 0

over the tokens n of a batch. Shapes: student, teacher logits (N, C); first (N,).

Traps
  - pieces after a word's first, [CLS], [SEP] and padding carry no label and have no part in it
  - the mean runs over the words of the batch, not over its sequences
  - a cross-entropy: its smallest value is the teacher's entropy, not 0
"""

import numpy as np


def softmax_row(z):
    e = np.exp(z - z.real.max())
    return e / e.sum()


def sequence_labels(student, teacher, first):
    """L."""
    total, words = 0, 0
    for n in np.flatnonzero(first):
        p, q = softmax_row(teacher[n]), softmax_row(student[n])
        total, words = total - sum(p[c] * np.log(q[c]) for c in range(len(p))), words + 1
    return total / words
