"""Are sixteen heads really better than one? (Michel, Levy and Neubig 2019): how important a head is, as printed.

    MHAtt(x) = sum_h xi_h Att_h(x),                  a gate xi_h = 1 for each head
    I_h      = E_x |dL(x)/dxi_h| = E_x |Att_h(x)^T dL(x)/dAtt_h(x)|

x is one example: the product is summed over its tokens before the absolute value. Two published codes compute something
else, and all divide by the length of the layer's vector of I_h. Shapes: context, gradient (B, heads, T, d_k).

Traps
  - |sum over tokens| is not sum over tokens of ||: heads may change their order
  - adding gradients of several examples before the absolute value lets them cancel
  - L(x) is the loss of one example: a mean over the batch scales I_h with the size of the batch
"""

import numpy as np

from tinydistill_reference.conventions import need


def attention(x, query, key, value, output, gate):
    """MHAtt of a sequence x (T, D). Shapes: query, key, value (heads, d_k, D), output (heads, D, d_k), gate (heads)."""
    y = 0
    for h in range(len(gate)):
        scores = (x @ query[h].T) @ (x @ key[h].T).T / query.shape[1] ** 0.5
        e = np.exp(scores - scores.real.max(axis=1, keepdims=True))
        y = y + gate[h] * (e / e.sum(axis=1, keepdims=True)) @ (x @ value[h].T) @ output[h].T
    return y


def importance(context, gradient, version="example"):
    """I_h. version: "example" as printed, "token" and "batch" as in two codes. Shape: (heads,)."""
    need(context.shape == gradient.shape, f"context and gradient of one shape: {context.shape}, {gradient.shape}")
    B, heads, T = context.shape[:3]
    found = []
    for h in range(heads):
        dot = [[sum(context[b, h, t] * gradient[b, h, t]) for t in range(T)] for b in range(B)]
        found.append({"example": sum(abs(sum(row)) for row in dot) / B,
                      "token": sum(abs(one) for row in dot for one in row),
                      "batch": abs(sum(sum(row) for row in dot))}[version])
    return np.array(found)


def normalised(scores):
    """By the layer's own length; 1e-20 keeps a layer of zeros from dividing by it."""
    return scores / (np.sqrt(sum(scores ** 2)) + 1e-20)
