"""Layer normalisation of a residual sum. Equations: `kernels/layer_norm.py`."""

from tinydistill import kernels
from tinydistill.tensor import op


@op
def layer_norm(x, residual, gamma, beta, *, eps):
    """y = gamma * (z - mean z) / sqrt(var z + eps) + beta with z = x + residual; residual may be None.

    Shapes: x, residual, y (..., D); gamma, beta (D,).
    Source: Ba, Kiros and Hinton 2016, equation 4; eps inside the root and the biased variance as in BERT.
    """
    kernel = kernels.of(x)
    y, xhat, scale = kernel.layer_norm(x, residual, gamma, beta, eps)

    def pullback(dy):
        dz, dgamma, dbeta = kernel.layer_norm_pullback(dy, xhat, scale, gamma)
        return dz, None if residual is None else dz, dgamma, dbeta

    return y, pullback
