"""Layer normalisation over the last axis (Ba, Kiros and Hinton 2016), as BERT has it.

    mu      = 1/D sum_j x_j         var = 1/D sum_j (x_j - mu)^2
    xhat_j  = (x_j - mu) / sqrt(var + eps)          y_j = gain_j xhat_j + bias_j

    dxhat   = gain dy
    dx_j    = (dxhat_j - 1/D sum_k dxhat_k - xhat_j 1/D sum_k dxhat_k xhat_k) / sqrt(var + eps)
    dgain   = sum_n xhat dy         dbias = sum_n dy                            over all rows n

With a residual r the norm is that of x + r, and dr = dx. Shapes: x, r, y (..., D); gain, bias (D,).

Traps
  - the variance is the biased one, over D and not D - 1; eps stands inside the root
  - BERT's eps is 1e-12; PyTorch's default is 1e-5, and PyTorch's std is the unbiased one
  - mu and var depend on every x_k: two more terms in dx
  - var as E[x^2] - mu^2 loses all digits where mu is large
"""

import numpy as np

from tinydistill_reference.conventions import need


def standardised(x, eps):
    """xhat and sqrt(var + eps) of one row."""
    mu = x.sum() / len(x)
    sigma = np.sqrt(((x - mu) ** 2).sum() / len(x) + eps)
    return (x - mu) / sigma, sigma


def checked(x, gain, bias, eps):
    """The rows of x."""
    need(gain.shape == bias.shape == x.shape[-1:],
         f"a gain and a bias of the last axis' size: x {x.shape}, gain {gain.shape}, bias {bias.shape}")
    need(eps >= 0, f"an eps of at least 0, got {eps}")
    return x.reshape(-1, x.shape[-1])                                                   # (N, D)


def layer_norm(x, gain, bias, *, eps=1e-12):
    """y."""
    return np.array([gain * standardised(row, eps)[0] + bias for row in checked(x, gain, bias, eps)]).reshape(x.shape)


def layer_norm_gradient(upstream, x, gain, bias, *, eps=1e-12):
    """dx = (dxhat - mean dxhat - xhat mean(dxhat xhat)) / sqrt(var + eps), dgain = sum xhat dy, dbias = sum dy."""
    dx, dgain, dbias, D = [], 0, 0, x.shape[-1]
    for row, dy in zip(checked(x, gain, bias, eps), upstream.reshape(-1, D)):           # (N, D)
        xhat, sigma = standardised(row, eps)
        dxhat = gain * dy
        dx.append((dxhat - dxhat.sum() / D - xhat * (dxhat * xhat).sum() / D) / sigma)
        dgain, dbias = dgain + xhat * dy, dbias + dy
    return {"x": np.array(dx).reshape(x.shape), "gain": dgain, "bias": dbias}


def layer_norm_residual(x, residual, gain, bias, *, eps=1e-12):
    """y of x + r."""
    need(residual.shape == x.shape, f"x and residual of one shape: x {x.shape}, residual {residual.shape}")
    return layer_norm(x + residual, gain, bias, eps=eps)


def layer_norm_residual_gradient(upstream, x, residual, gain, bias, *, eps=1e-12):
    """dr = dx."""
    found = layer_norm_gradient(upstream, x + residual, gain, bias, eps=eps)
    return found | {"residual": found["x"]}
