"""GELU of a biased input, in its exact form.

    gelu(x) = x Phi(x)        Phi(x) = (1 + erf(x / sqrt 2)) / 2        gelu'(x) = Phi(x) + x exp(-x^2/2) / sqrt(2 pi)

The forward keeps gelu'(x + b), so the pullback is one product.
"""

import numpy as np

from tinydistill.backend import erf, xp_of


def bias_gelu(x, bias):
    """gelu(x + bias) and its derivative. Shapes: x (..., F), bias (F,)."""
    xp = xp_of(x)
    x = x + bias
    cdf = 0.5 * (1 + erf(x * 0.5 ** 0.5))
    return x * cdf, cdf + x * xp.exp(-0.5 * x * x) * (2 * np.pi) ** -0.5


# ---------------------------------------------------------------- fused NumPy

# Phi(x) = (1 + tanh(x P(x^2))) / 2 with P of degree 6: the minimax fit of x -> atanh(2 Phi(x) - 1) / x on |x| <= 6,
# weighted by what an error of P does to gelu. Exact arithmetic is within 7e-8 of gelu, float32 within 6e-7
# (PyTorch's float32 GELU: 1.2e-6). Beyond |x| = 6 tanh is 1 in float32 and P's argument is held at 36.
P = (7.97884216e-01, 3.63342835e-02, -3.31299913e-05, -5.52401587e-05, 3.96910944e-06, -1.33446406e-07, 1.80561631e-09)
DP = tuple((2 * k + 1) * p for k, p in enumerate(P))                    # d(x P(x^2))/dx = sum (2k+1) p_k x^2k
BLOCK = 1 << 16                                                         # elements: what a chain of passes keeps in cache


def bias_gelu_numpy(x, bias):
    """The same in float32 through tanh of an odd polynomial, block by block so that every pass but two stays in cache.

    float64 takes the plain version: the polynomial's 7e-8 is float32's rounding, not float64's.
    """
    if x.dtype != np.float32:
        return bias_gelu(x, bias)
    width = x.shape[-1]
    flat = x.reshape(-1, width)                                         # (rows, F)
    y, derivative = np.empty_like(flat), np.empty_like(flat)
    rows = max(1, BLOCK // width)
    for first in range(0, len(flat), rows):
        block = slice(first, first + rows)
        h, slope = y[block], derivative[block]
        np.add(flat[block], bias, out=h)
        square = np.minimum(h * h, np.float32(36))
        t = _polynomial(P, square)
        t *= h
        np.tanh(t, out=t)
        _polynomial(DP, square, out=slope)                              # gelu' = (1 + t)/2 + x/2 (1 - t^2) (xP)'
        np.multiply(t, t, out=square)
        np.subtract(1, square, out=square)
        slope *= square
        slope *= h
        t += 1
        slope += t
        slope *= 0.5
        h *= t
        h *= 0.5
    return y.reshape(x.shape), derivative.reshape(x.shape)


def _polynomial(coefficients, z, out=None):
    """sum_k c_k z^k by Horner's rule."""
    out = np.multiply(z, coefficients[-1], out=out)
    for c in coefficients[-2:0:-1]:
        out += c
        out *= z
    out += coefficients[0]
    return out
