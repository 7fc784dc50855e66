"""Softmax and log-softmax over the last axis, with masked keys. Equations: `kernels/softmax.py`."""

from tinydistill import kernels
from tinydistill.tensor import op


@op
def softmax(scores, *, mask=None):
    """Probabilities: 0 exactly where the mask is False; a row without any key is all 0 and has gradient 0.

    Shapes: scores (..., T); mask broadcasts against scores, True where a key may be seen.
    """
    kernel = kernels.of(scores)
    y = kernel.softmax(scores, mask)
    return y, lambda dy: (kernel.softmax_pullback(dy, y),)


@op
def log_softmax(scores, *, mask=None):
    """log of `softmax`, stable for any scores; 0 at masked keys, which carry no gradient."""
    kernel = kernels.of(scores)
    y = kernel.log_softmax(scores, mask)
    return y, lambda dy: (kernel.log_softmax_pullback(dy, y, mask),)
