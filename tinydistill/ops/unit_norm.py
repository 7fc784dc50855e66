"""Vectors of length 1. Equations: `kernels/unit_norm.py`."""

from tinydistill import kernels
from tinydistill.tensor import op


@op
def unit_norm(x, *, eps=1e-12):
    """y = x / max(|x|, eps) over the last axis. Shapes: x, y (..., D). A zero vector stays zero, with a finite gradient."""
    kernel = kernels.of(x)
    y, norm = kernel.unit_norm(x, eps)
    return y, lambda dy: (kernel.unit_norm_pullback(dy, y, norm, eps),)
