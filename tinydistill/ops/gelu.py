"""GELU in its exact form, and in its tanh form. Equations: `kernels/gelu.py`, `kernels/gelu_new.py`."""

from tinydistill import kernels
from tinydistill.tensor import op


@op
def bias_gelu(x, bias):
    """gelu(x + bias), gelu(x) = x Phi(x). Shapes: x (..., F), bias (F,).

    Source: Hendrycks and Gimpel 2016, equation 1; the tanh form is another function, and not this one.
    """
    y, derivative = kernels.of(x).bias_gelu(x, bias)

    def pullback(dy):
        dx = dy * derivative
        return dx, lambda: kernels.of(dx).row_sums(dx.reshape(-1, dx.shape[-1]).T)

    return y, pullback


@op
def gelu(x):
    """gelu(x) = x Phi(x)."""
    y, derivative = kernels.of(x).bias_gelu(x, 0)
    return y, lambda dy: (dy * derivative,)


@op
def gelu_new(x):
    """gelu_new(x) = x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2: what Google's BERT calls gelu.

    Source: Hendrycks and Gimpel 2016, section 2; google-research/bert modeling.py.
    """
    y, derivative = kernels.of(x).gelu_new(x)
    return y, lambda dy: (dy * derivative,)
