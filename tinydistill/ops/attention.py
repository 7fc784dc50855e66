"""Multi-head attention in three ops: project to heads, attend, and the scaled product that relations are made of."""

from tinydistill import kernels
from tinydistill.backend import xp_of
from tinydistill.ops.dropout import kept
from tinydistill.tensor import op


@op
def project_heads(x, query_weight, query_bias, key_weight, key_bias, value_weight, value_bias, *, heads):
    """queries, keys and values of every head, from one product: x [Wq Wk Wv]^T + [bq bk bv].

    Shapes: x (B, T, D), weights (A*K, D), biases (A*K,); each result (B, A, T, K).
    """
    xp = xp_of(x)
    B, T, D = x.shape
    weights = query_weight, key_weight, value_weight
    K = len(query_weight) // heads
    flat = x.reshape(B * T, D)
    y = kernels.of(x).linear(flat, xp.concatenate(weights), xp.concatenate([query_bias, key_bias, value_bias]))
    split = y.reshape(B, T, 3, heads, K).transpose(2, 0, 3, 1, 4)                       # (3, B, A, T, K)

    def pullback(*dheads):                          # of queries, keys, values: None for one that nobody used
        used = [i for i in range(3) if dheads[i] is not None]
        dsplit = xp.stack([dheads[i] for i in used])                                    # (n, B, A, T, K)
        dy = dsplit.transpose(1, 3, 0, 2, 4).reshape(B * T, len(used) * heads * K)      # (B*T, nAK)
        dweights = iter(xp.split(dy.T @ flat, len(used)))
        dbiases = iter(xp.split(kernels.of(dy).row_sums(dy.T), len(used)))
        pairs = [(None, None) if d is None else (next(dweights), next(dbiases)) for d in dheads]
        return (lambda: (dy @ xp.concatenate([weights[i] for i in used])).reshape(x.shape),
                *pairs[0], *pairs[1], *pairs[2])

    return (split[0], split[1], split[2]), pullback


@op
def attention(q, k, v, *, mask=None, bits=None, rate=0.0):
    """context = dropout(softmax(q k^T / sqrt(K), mask)) v. Equations: `kernels/attention.py`.

    Shapes: q, k, v, context (B, A, T, K); mask broadcasts against (B, A, T, T); bits (B, A, T, T) uint16 or None.
    Source: Vaswani et al. 2017, equation 1.
    """
    kernel = kernels.of(q)
    keep, keep_probability = (None, 1.0) if bits is None else kept(bits, rate)
    context, p = kernel.attention(q, k, v, mask, keep, keep_probability)
    return context, lambda dy: kernel.attention_pullback(dy, q, k, v, p, keep, keep_probability)


@op
def scaled_product(x, y):
    """x y^T / sqrt(K): attention scores for (queries, keys), MiniLM's value relation for (values, values).

    Shapes: x, y (B, A, T, K); result (B, A, T, T).
    """
    scale = x.shape[-1] ** -0.5

    def pullback(dscores):
        dscaled = dscores * scale
        return lambda: dscaled @ y, lambda: dscaled.swapaxes(-1, -2) @ x

    return (x @ y.swapaxes(-1, -2)) * scale, pullback
