"""Q-BERT (Shen, Dong, Ye, Ma, Yao, Gholami, Mahoney and Keutzer 2020). Unverified, from memory, all but the grouping.

    fake(W) = l + d round((W - l) / d)      d = (h - l) / (2^bits - 1)      l = min W, h = max W of a group
    Omega = |mean_j lambda_j| + std_j lambda_j      lambda_j: the largest eigenvalue of the Hessian on the j-th subset

A group is a run of output neurons, which are the rows of W (F, D), x in the code.

Traps
  - 2^bits - 1 steps between 2^bits levels
  - a group of one number has no step: here it stays what it is
  - the gradient passes the rounding, as in reference/q8bert.py
  - the largest eigenvalue by magnitude may be a negative one; std is that of all subsets, not of a sample of them
"""

import numpy as np

from tinydistill_reference.conventions import need


def fake_group(W, bits):
    """One group, number by number."""
    l, h = min(np.real(W).ravel()), max(np.real(W).ravel())
    if h == l:
        return W
    d = (h - l) / (2 ** bits - 1)
    rounded = np.array([l + d * round((w - l) / d) for w in np.real(W).ravel()]).reshape(W.shape)
    return rounded + 1j * np.imag(W) if np.iscomplexobj(W) else rounded


def fake(x, groups, bits):
    """Every group by itself."""
    need(len(x) % groups == 0 and bits >= 1,
         f"rows that the groups divide, and at least 1 bit: x {x.shape}, groups {groups}, bits {bits}")
    rows = len(x) // groups
    return np.concatenate([fake_group(x[g * rows:(g + 1) * rows], bits) for g in range(groups)])


def fake_gradient(upstream, x, groups, bits):
    """dx = dy: l, h and the rounding count as constants."""
    return {"x": upstream}


def top_eigenvalue(H):
    """Of a symmetric matrix, the eigenvalue that is largest in magnitude, with its sign."""
    eigenvalues = np.linalg.eigvalsh(H)
    return eigenvalues[np.argmax(abs(eigenvalues))]


def omega(eigenvalues):
    """The sensitivity of a layer, from one eigenvalue for each subset of the data."""
    mean = sum(eigenvalues) / len(eigenvalues)
    return abs(mean) + np.sqrt(sum((e - mean) ** 2 for e in eigenvalues) / len(eigenvalues))
