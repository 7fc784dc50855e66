"""NoNorm (Sun, Yu, Song, Liu, Yang and Zhou 2020, MobileBERT): the scale and shift of a layer norm, and nothing else.

    y = gain x + bias           dx = gain dy        dgain = sum_n x dy      dbias = sum_n dy        over all rows n

With a residual r it is gain (x + r) + bias, and dr = dx. Shapes: x, r, y (..., D); gain, bias (D,).

Traps
  - no mean, no variance, no eps: the gradient of one number never reaches another
  - gain and bias are shared by all rows, so their gradients are sums over them
"""

from tinydistill_reference.conventions import need


def no_norm(x, gain, bias):
    """y."""
    need(gain.shape == bias.shape == x.shape[-1:],
         f"a gain and a bias of the last axis' size: x {x.shape}, gain {gain.shape}, bias {bias.shape}")
    return gain * x + bias


def no_norm_gradient(upstream, x, gain, bias):
    """dx = gain dy, dgain = sum x dy, dbias = sum dy."""
    rows = tuple(range(x.ndim - 1))
    return {"x": gain * upstream, "gain": (x * upstream).sum(axis=rows), "bias": upstream.sum(axis=rows)}


def no_norm_residual(x, residual, gain, bias):
    """y of x + r."""
    need(residual.shape == x.shape, f"x and residual of one shape: x {x.shape}, residual {residual.shape}")
    return no_norm(x + residual, gain, bias)


def no_norm_residual_gradient(upstream, x, residual, gain, bias):
    """dr = dx."""
    found = no_norm_gradient(upstream, x + residual, gain, bias)
    return found | {"residual": found["x"]}
