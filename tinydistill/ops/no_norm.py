"""Scale and shift of a residual sum. Equations: `kernels/no_norm.py`."""

from tinydistill import kernels
from tinydistill.tensor import op


@op
def no_norm(x, residual, gamma, beta):
    """y = gamma * (x + residual) + beta; residual may be None.

    Shapes: x, residual, y (..., D); gamma, beta (D,).
    Raises: ValueError where the residual is not of x's shape.
    Source: Sun et al. 2020, MobileBERT's NoNorm; google-research/google-research mobilebert/modeling.py.
    """
    if residual is not None and residual.shape != x.shape:
        raise ValueError(f"need x and residual of one shape: x {x.shape}, residual {residual.shape}")
    kernel = kernels.of(x)
    y, z = kernel.no_norm(x, residual, gamma, beta)

    def pullback(dy):
        dz, dgamma, dbeta = kernel.no_norm_pullback(dy, z, gamma)
        return dz, None if residual is None else dz, dgamma, dbeta

    return y, pullback
