"""Multi-head scaled dot-product attention.

    scores = q k^T / sqrt(K)        p = softmax(scores, mask)        context = dropout(p) v

Shapes: q, k, v (B, A, T, K) · mask broadcasts against (B, A, T, T), True where a key may be seen ·
keep (B, A, T, T) bool, or None without dropout · context (B, A, T, K).
"""

import numpy as np

from tinydistill.kernels.softmax import softmax, softmax_numpy, softmax_pullback, softmax_pullback_numpy


def attention(q, k, v, mask, keep, keep_probability):
    """Returns the context and the probabilities before dropout, which the pullback needs."""
    p = softmax(q @ k.swapaxes(-1, -2) * q.shape[-1] ** -0.5, mask)      # (B, A, T, T)
    dropped = p if keep is None else p * keep / keep_probability
    return dropped @ v, p


def attention_pullback(dcontext, q, k, v, p, keep, keep_probability):
    """Returns dq, dk, dv."""
    dropped = p if keep is None else p * keep / keep_probability
    dv = dropped.swapaxes(-1, -2) @ dcontext                            # context = dropped v
    dp = dcontext @ v.swapaxes(-1, -2)
    if keep is not None:
        dp = dp * keep / keep_probability
    dscores = softmax_pullback(dp, p) * q.shape[-1] ** -0.5
    return dscores @ k, dscores.swapaxes(-1, -2) @ q, dv                # scores = q k^T


# ---------------------------------------------------------------- fused NumPy: one sequence at a time, so that its
# (A, T, T) arrays are still in cache when the next product reads them. The sums are those above, in the same order.

def attention_numpy(q, k, v, mask, keep, keep_probability):
    context = np.empty(v.shape, q.dtype)
    p = np.empty(q.shape[:3] + k.shape[2:3], q.dtype)                   # (B, A, T, T)
    seen = None if mask is None else np.broadcast_to(mask, p.shape)
    scale = q.dtype.type(q.shape[-1] ** -0.5)
    for b in range(len(q)):
        scores = np.matmul(q[b], k[b].swapaxes(-1, -2))
        scores *= scale
        p[b] = softmax_numpy(scores, None if seen is None else seen[b])
        np.matmul(p[b] if keep is None else _dropped(p[b], keep[b], keep_probability), v[b], out=context[b])
    return context, p


def attention_pullback_numpy(dcontext, q, k, v, p, keep, keep_probability):
    dq, dk, dv = np.empty(q.shape, q.dtype), np.empty(k.shape, q.dtype), np.empty(v.shape, q.dtype)
    scale = q.dtype.type(q.shape[-1] ** -0.5)
    for b in range(len(q)):
        dropped = p[b] if keep is None else _dropped(p[b], keep[b], keep_probability)
        np.matmul(dropped.swapaxes(-1, -2), dcontext[b], out=dv[b])
        dp = np.matmul(dcontext[b], v[b].swapaxes(-1, -2))
        if keep is not None:
            dp = _dropped(dp, keep[b], keep_probability)
        dscores = softmax_pullback_numpy(dp, p[b])
        dscores *= scale
        np.matmul(dscores, k[b], out=dq[b])
        np.matmul(dscores.swapaxes(-1, -2), q[b], out=dk[b])
    return dq, dk, dv


def _dropped(x, keep, keep_probability):
    out = x * keep
    out *= 1 / keep_probability
    return out
