"""One step of LAMB (You et al. 2020): Adam's update, made as long as the parameter is, in place.

    m = beta1 m + (1 - beta1) g                 v = beta2 v + (1 - beta2) g^2
    u = mhat / (sqrt(vhat) + eps) + decay * parameter
    parameter = parameter - lr * (|parameter| / |u|) * u              a ratio of 1 where either norm is 0

|x| is the root of the sum of squares of the whole tensor. mhat = m / (1 - beta1^t) and vhat = v / (1 - beta2^t) at step
t; without t they are m and v: published code (google-research mobilebert/lamb_optimizer.py) corrects no bias.
Shapes: parameter, gradient, m, v the same.
"""

import math

import numpy as np

from tinydistill.backend import xp_of
from tinydistill.kernels.adamw import CHUNK, _chunks, _direction, _in_order, _move


def lamb(parameter, gradient, m, v, t, lr, beta1, beta2, eps, decay):
    """t: the step, from 1, or None for no bias correction."""
    xp = xp_of(parameter)
    m += (1 - beta1) * (gradient - m)
    v += (1 - beta2) * (gradient * gradient - v)
    mhat, vhat = (m, v) if t is None else (m / (1 - beta1 ** t), v / (1 - beta2 ** t))
    u = mhat / (xp.sqrt(vhat) + eps) + decay * parameter
    of_parameter, of_u = (xp.sqrt((x * x).sum()) for x in (parameter, u))
    ratio = xp.where(of_parameter > 0, of_parameter / xp.where(of_u > 0, of_u, 1), 1)       # of u = 0 any will do
    parameter -= lr * ratio * u


# ---------------------------------------------------------------- fused NumPy: once for the norms, once for the step

def lamb_numpy(parameter, gradient, m, v, t, lr, beta1, beta2, eps, decay):
    """The same in chunks that stay in cache; u is computed twice rather than kept."""
    if not _in_order(parameter, m, v):
        return lamb(parameter, gradient, m, v, t, lr, beta1, beta2, eps, decay)
    m_factor, v_factor = (1, 1) if t is None else (1 / (1 - beta1 ** t), 1 / (1 - beta2 ** t))
    work = np.empty(min(CHUNK, parameter.size), parameter.dtype)
    of_parameter = of_u = 0.0                       # squares of the norms
    for p, g, m1, v1 in _chunks(parameter, gradient, m, v):
        u = work[:len(p)]
        np.multiply(p, p, out=u)
        of_parameter += float(u.sum())
        _move(m1, v1, g, u, beta1, beta2)
        _direction(m1, v1, u, m_factor, v_factor, eps)
        u += decay * p
        u *= u
        of_u += float(u.sum())
    step = lr * math.sqrt(of_parameter / of_u) if of_parameter > 0 and of_u > 0 else lr
    for p, m1, v1 in _chunks(parameter, m, v):
        u = work[:len(p)]
        _direction(m1, v1, u, step * m_factor, v_factor, eps)
        p *= 1 - step * decay
        p -= u
