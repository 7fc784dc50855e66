"""Dropout (Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov 2014), inverted, of random bits that are given.

    r = round(65536 rate)       k_j = 1 where bits_j >= r, else 0       s = 1 - r / 65536
    y_j = k_j x_j / s           dx_j = k_j dy_j / s

    attention                   Y = dropout(P) V with P = softmax(Q K^T / sqrt(d)) over the real keys
                                dV = dropout(P)^T dY        dP = dropout(dY V^T)        the rest as in attention.py

Shapes: x, bits any, of one shape, bits integers from 0 to 65535; queries, keys (B, A, T, K), values (B, A, T, K'), mask
(B, T), bits (B, A, T, T).

Traps
  - what is kept is divided by its probability while training, so that nothing is scaled afterwards
  - that is the probability, not the share that happened to be kept
  - the backward drops what the forward dropped
  - in attention probabilities are dropped, and not made to add up to 1 again
"""

import numpy as np

from tinydistill_reference.attention import heads
from tinydistill_reference.conventions import need
from tinydistill_reference.softmax import softmax, softmax_gradient


def dropped(x, bits, rate):
    """k x / s."""
    r = round(rate * 65536)
    need(0 <= r < 65536, f"a dropout rate of at least 0 and below 1, got {rate}")
    need(bits.shape == x.shape, f"bits of x's shape: x {x.shape}, bits {bits.shape}")
    return np.where(bits >= r, x / (1 - r / 65536), 0)


def dropout(x, bits, *, rate):
    """y."""
    return dropped(x, bits, rate)


def dropout_gradient(upstream, x, bits, *, rate):
    """dx = k dy / s."""
    return {"x": dropped(upstream, bits, rate)}


def attention_dropout(queries, keys, values, mask, bits, *, rate):
    """Y."""
    found = []
    for b, a, real in heads(queries, keys, values, mask):
        P = softmax(queries[b, a] @ keys[b, a].T / queries.shape[3] ** 0.5, real)
        found.append(dropped(P, bits[b, a], rate) @ values[b, a])
    return np.array(found).reshape(values.shape)                                        # (B, A, T, K')


def attention_dropout_gradient(upstream, queries, keys, values, mask, bits, *, rate):
    """dV = dropout(P)^T dY, dS from dP = dropout(dY V^T), dQ = dS K / sqrt(d), dK = dS^T Q / sqrt(d)."""
    dq, dk, dv, scale = np.zeros_like(queries), np.zeros_like(keys), np.zeros_like(values), queries.shape[3] ** 0.5
    for b, a, real in heads(queries, keys, values, mask):
        S, dY = queries[b, a] @ keys[b, a].T / scale, upstream[b, a]
        dS = softmax_gradient(dropped(dY @ values[b, a].T, bits[b, a], rate), S, real)["x"]
        dv[b, a] = dropped(softmax(S, real), bits[b, a], rate).T @ dY
        dq[b, a], dk[b, a] = dS @ keys[b, a] / scale, dS.T @ queries[b, a] / scale
    return {"queries": dq, "keys": dk, "values": dv}
