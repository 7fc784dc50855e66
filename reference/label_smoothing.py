"""Label smoothing: the standard one (Szegedy et al. 2016) and the one of UniLM's code, sum by sum.

    standard    L = -1/N sum_n sum_c r_nc log q_nc                  r = 1 - eps + eps/V at the label, eps/V elsewhere
    UniLM       L = 1/N sum_n sum_c r_nc (log r_nc - log q_nc)      r = 1 - eps at the label, 0 at the pad,
                                                                    eps/(V - 2) elsewhere

over the N rows that have a label. Shapes: logits (N, V); labels (N,), -100 where there is none; for UniLM, the pad too.

Traps
  - UniLM's is a divergence: smaller by the entropy of r, and 0 at q = r; the gradient q - r is a cross-entropy's
  - they differ in r as well, so that no constant makes one the other
  - UniLM's pad is 0 whatever the vocabulary; its code divides by N + 1e-5
"""

import numpy as np


def softmax_row(z):
    e = np.exp(z - z.real.max())
    return e / e.sum()


def standard(logits, labels, eps):
    """The cross-entropy with r."""
    V, total, rows = logits.shape[1], 0, np.flatnonzero(labels != -100)
    for n in rows:
        q = softmax_row(logits[n])
        total = total - sum(((1 - eps) * (c == labels[n]) + eps / V) * np.log(q[c]) for c in range(V))
    return total / len(rows)


def unilm(logits, labels, eps, pad=0, added=0):
    """The divergence from r; added: to the divisor, 1e-5 in the published code."""
    V, total, rows = logits.shape[1], 0, np.flatnonzero((labels != -100) & (labels != pad))
    for n in rows:
        q = softmax_row(logits[n])
        for c in range(V):
            r = 1 - eps if c == labels[n] else 0 if c == pad else eps / (V - 2)
            total = total + (r * (np.log(r) - np.log(q[c])) if r else 0)
    return total / (len(rows) + added)
