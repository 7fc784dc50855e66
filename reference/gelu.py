"""Gaussian error linear units (Hendrycks and Gimpel 2016): the exact one, and the tanh form, which is another function.

    gelu(x)         = x Phi(x)                          Phi(x) = (1 + erf(x / sqrt 2)) / 2
    gelu'(x)        = Phi(x) + x phi(x)                 phi(x) = exp(-x^2 / 2) / sqrt(2 pi)
    gelu_new(x)     = x (1 + tanh u) / 2                u = sqrt(2 / pi) (x + c x^3),   c = 0.044715
    gelu_new'(x)    = (1 + tanh u) / 2 + x/2 (1 - tanh^2 u) sqrt(2 / pi) (1 + 3 c x^2)
    bias_gelu       = gelu(x + b)                       dx = dy gelu'(x + b)        db = sum_n dx_n over all rows n

Shapes: x any; with a bias x (..., F), bias b (F,).

Traps
  - the two differ by up to 4.7e-4: weights trained with one are not those of the other
  - each has its own derivative: a backward of one with the forward of the other is no gradient
"""

import numpy as np

from tinydistill_reference.conventions import need
from tinydistill_reference.erf import erf

C = 0.044715


def gelu(x):
    """x Phi(x)."""
    return x * (1 + erf(x / 2 ** 0.5)) / 2


def gelu_gradient(upstream, x):
    """dx = dy (Phi(x) + x phi(x))."""
    Phi, phi = (1 + erf(x / 2 ** 0.5)) / 2, np.exp(-x * x / 2) / (2 * np.pi) ** 0.5
    return {"x": upstream * (Phi + x * phi)}


def gelu_new(x):
    """x (1 + tanh u) / 2."""
    return x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + C * x ** 3))) / 2


def gelu_new_gradient(upstream, x):
    """dx = dy ((1 + t) / 2 + x/2 (1 - t^2) du/dx), t = tanh u."""
    t, slope = np.tanh((2 / np.pi) ** 0.5 * (x + C * x ** 3)), (2 / np.pi) ** 0.5 * (1 + 3 * C * x ** 2)
    return {"x": upstream * ((1 + t) / 2 + x / 2 * (1 - t ** 2) * slope)}


def bias_gelu(x, bias):
    """gelu(x + b)."""
    need(bias.shape == x.shape[-1:], f"a bias of the last axis' size: x {x.shape}, bias {bias.shape}")
    return gelu(x + bias)


def bias_gelu_gradient(upstream, x, bias):
    """dx = dy gelu'(x + b), db = sum_n dx_n."""
    dx = gelu_gradient(upstream, x + bias)["x"]
    return {"x": dx, "bias": dx.reshape(-1, len(bias)).sum(axis=0)}                     # (N, F)
