"""Scaled dot-product attention (Vaswani et al. 2017, equation 1) and the relation of a sequence with itself.

    S = Q K^T / sqrt(d)         P = softmax(S) over the real keys       Y = P V
    dV = P^T dY                 dP = dY V^T         dS_t = P_t (dP_t - sum_s P_ts dP_ts)
    dQ = dS K / sqrt(d)         dK = dS^T Q / sqrt(d)

    Q_a = X Wq_a^T + bq_a, and K_a, V_a alike, of each head a from its K rows of the weights and biases
    dX  = sum_a dQ_a Wq_a + dK_a Wk_a + dV_a Wv_a       dWq_a = dQ_a^T X        dbq_a = sum_t dQ_at

    R = softmax(X X^T / sqrt(d)),           dX = (dS + dS^T) X / sqrt(d)                (Wang et al. 2020, eq. 7, 8)

Shapes: queries, keys (B, A, T, K), values (B, A, T, K'), mask (B, T), True at real keys; d = K. To project to heads:
x (B, T, D), weights (A K, D), biases (A K,), of which rows 0 to K - 1 are those of the first head.

Traps
  - d is the size of one head, not of all of them, and that of the queries, not of the values
  - the softmax runs over keys; padding is cut away before it
  - the mask belongs to keys: queries of padding are computed like others, and nobody has to read them
  - in a relation X stands on both sides of the product, and its gradient has two terms
"""

import numpy as np

from tinydistill_reference.conventions import need
from tinydistill_reference.softmax import softmax, softmax_gradient


def heads(queries, keys, values, mask):
    """(b, a, the real keys of b) of every head."""
    (B, A, T), seen = queries.shape[:3], mask.shape
    need(keys.shape == queries.shape and values.shape[:3] == (B, A, T) and seen == (B, T),
         f"queries and keys of one shape, values and a mask of the same tokens: queries {queries.shape}, "
         f"keys {keys.shape}, values {values.shape}, mask {seen}")
    return [(b, a, mask[b]) for b in range(B) for a in range(A)]


def attention(queries, keys, values, mask, *, empty="zero"):
    """Y. empty: what a sequence without a real key reads, as in softmax.py."""
    found = []
    for b, a, real in heads(queries, keys, values, mask):
        P = softmax(queries[b, a] @ keys[b, a].T / queries.shape[3] ** 0.5, real, empty=empty)
        found.append(P @ values[b, a])
    return np.array(found).reshape(values.shape)                                        # (B, A, T, K')


def attention_gradient(upstream, queries, keys, values, mask, *, empty="zero"):
    """dV = P^T dY, dQ = dS K / sqrt(d), dK = dS^T Q / sqrt(d)."""
    dq, dk, dv, scale = np.zeros_like(queries), np.zeros_like(keys), np.zeros_like(values), queries.shape[3] ** 0.5
    for b, a, real in heads(queries, keys, values, mask):
        S, dY = queries[b, a] @ keys[b, a].T / scale, upstream[b, a]
        dS = softmax_gradient(dY @ values[b, a].T, S, real)["x"]
        dv[b, a] = softmax(S, real, empty=empty).T @ dY
        dq[b, a], dk[b, a] = dS @ keys[b, a] / scale, dS.T @ queries[b, a] / scale
    return {"queries": dq, "keys": dk, "values": dv}


def relation_mask(real, rows):
    """(T, T): the real keys of every row that counts; other rows are 0. rows "all": rows of padding count, too."""
    return real[None, :] & (real[:, None] | (rows == "all"))


def relation(x, mask, *, rows="real"):
    """R. Shapes: x (B, A, T, K) -> (B, A, T, T)."""
    found = [softmax(x[b, a] @ x[b, a].T / x.shape[3] ** 0.5, relation_mask(real, rows))
             for b, a, real in heads(x, x, x, mask)]
    return np.array(found).reshape(*x.shape[:3], x.shape[2])                            # (B, A, T, T)


def relation_gradient(upstream, x, mask, *, rows="real"):
    """dX = (dS + dS^T) X / sqrt(d)."""
    dx, scale = np.zeros_like(x), x.shape[3] ** 0.5
    for b, a, real in heads(x, x, x, mask):
        dS = softmax_gradient(upstream[b, a], x[b, a] @ x[b, a].T / scale, relation_mask(real, rows))["x"]
        dx[b, a] = (dS + dS.T) @ x[b, a] / scale
    return {"x": dx}


SIDES = {"queries": "query", "keys": "key", "values": "value"}


def project_heads(x, *, heads, **weights):
    """Q, K and V of every head."""
    found = {}
    for side, name in SIDES.items():
        weight, bias = weights[f"{name}_weight"], weights[f"{name}_bias"]
        need(x.shape[2] == weight.shape[1] and bias.shape == weight.shape[:1] and len(bias) % heads == 0,
             f"weights (A K, D) and biases (A K,) of {heads} heads whose shapes fit: x {x.shape}, {name}_weight "
             f"{weight.shape}, {name}_bias {bias.shape}")
        of_heads = [x @ W.T + b for W, b in zip(np.split(weight, heads), np.split(bias, heads))]    # A of (B, T, K)
        found[side] = np.stack(of_heads, axis=1)                                        # (B, A, T, K)
    return found


def project_heads_gradient(upstream, x, *, heads, **weights):
    """dX = sum_a dQ_a Wq_a + dK_a Wk_a + dV_a Wv_a, dWq_a = dQ_a^T X, dbq_a = sum_t dQ_at."""
    found, rows = {"x": np.zeros_like(x)}, x.reshape(-1, x.shape[2])                    # (BT, D)
    for side, name in SIDES.items():
        dy = [upstream[side][:, a] for a in range(heads)]                               # A of (B, T, K)
        found["x"] = found["x"] + sum(d @ W for d, W in zip(dy, np.split(weights[f"{name}_weight"], heads)))
        found[f"{name}_weight"] = np.concatenate([d.reshape(len(rows), -1).T @ rows for d in dy])
        found[f"{name}_bias"] = np.concatenate([d.sum(axis=(0, 1)) for d in dy])
    return found
