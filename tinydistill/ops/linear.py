"""Matrix products."""

from tinydistill import kernels
from tinydistill.ops.elementary import unbroadcast
from tinydistill.tensor import op


@op
def matmul(a, b):
    """a @ b over the last two axes; the leading ones broadcast. Shapes: (..., M, K) @ (..., K, N) -> (..., M, N)."""
    if a.ndim < 2 or b.ndim < 2:
        raise ValueError(f"need two arrays of at least two axes, got shapes {a.shape} and {b.shape}")

    def pullback(dy):
        return (lambda: unbroadcast(dy @ b.swapaxes(-1, -2), a),
                lambda: unbroadcast(a.swapaxes(-1, -2) @ dy, b))
    return a @ b, pullback


@op
def linear(x, weight, bias):
    """y = x W^T + b. Shapes: x (..., D), weight (F, D), bias (F,) or None, y (..., F)."""
    flat = x.reshape(-1, x.shape[-1])                                   # (N, D)
    y = kernels.of(x).linear(flat, weight, bias)                        # (N, F)

    def pullback(dy):
        dflat = dy.reshape(-1, weight.shape[0])                         # (N, F)
        return (lambda: (dflat @ weight).reshape(x.shape),
                lambda: dflat.T @ flat,
                None if bias is None else lambda: kernels.of(dflat).row_sums(dflat.T))

    return y.reshape(x.shape[:-1] + weight.shape[:1]), pullback
