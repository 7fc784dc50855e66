"""Layer normalisation of a residual sum. Equations: `kernels/layer_norm.py`."""

from tinydistill import kernels
from tinydistill.tensor import op


@op
def layer_norm(x, residual, gamma, beta, *, eps):
    """y = gamma * (z - mean z) / sqrt(var z + eps) + beta with z = x + residual; residual may be None.

    Shapes: x, residual, y (..., D); gamma, beta (D,).
    Raises: ValueError where the residual is not of x's shape.
    Source: Ba, Kiros and Hinton 2016, equation 4; eps inside the root and the biased variance as in BERT.
    """
    if residual is not None and residual.shape != x.shape:
        raise ValueError(f"need x and residual of one shape: x {x.shape}, residual {residual.shape}")
    kernel = kernels.of(x)
    y, xhat, scale = kernel.layer_norm(x, residual, gamma, beta, eps)

    def pullback(dy):
        dz, dgamma, dbeta = kernel.layer_norm_pullback(dy, xhat, scale, gamma)
        return dz, None if residual is None else dz, dgamma, dbeta

    return y, pullback
