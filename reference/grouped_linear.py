"""The affine map in groups: the pointwise convolution of SqueezeBERT (Iandola, Shaw, Krishna and Keutzer 2020).

    y_f = sum_i W_fi x_{gI + i} + b_f           g = the group of f: the first F/G outputs are group 0, and so on
    dx_{gI + i} = sum_{f in g} dy_f W_fi        dW_fi = sum_n dy_f x_{gI + i}           db_f = sum_n dy_f

Shapes: x (..., D), weight W (F, I) with I = D/G as of a 1x1 convolution, bias b (F,), y (..., F), G groups.

Traps
  - groups are runs of neighbours, both of inputs and of outputs: neither interleaves
  - every output has its own bias; no group has one
  - with G = 1 it is the affine map
"""

import numpy as np

from tinydistill_reference.conventions import need


def inputs_of(x, weight, bias, groups):
    """[the slice of inputs that output f reads]."""
    (F, I), D = weight.shape, x.shape[-1]
    need(D == groups * I and F % groups == 0 and bias.shape == (F,),
         f"x (..., D), weight (F, D/G) and bias (F,) with G groups that divide F: x {x.shape}, weight {weight.shape}, "
         f"bias {bias.shape}, groups {groups}")
    first = [f // (F // groups) * I for f in range(F)]
    return [slice(d, d + I) for d in first]


def grouped_linear(x, weight, bias, *, groups):
    """y."""
    return np.stack([x[..., inputs] @ weight[f] + bias[f]
                     for f, inputs in enumerate(inputs_of(x, weight, bias, groups))], axis=-1)


def grouped_linear_gradient(upstream, x, weight, bias, *, groups):
    """dx, dW, db: output by output."""
    dx, dweight, dbias = np.zeros_like(x), np.zeros_like(weight), np.zeros_like(bias)
    for f, inputs in enumerate(inputs_of(x, weight, bias, groups)):
        dy = upstream[..., f, None]                                                     # (..., 1)
        dx[..., inputs] += dy * weight[f]
        dweight[f] = (dy * x[..., inputs]).reshape(-1, weight.shape[1]).sum(axis=0)     # (N, I)
        dbias[f] = dy.sum()
    return {"x": dx, "weight": dweight, "bias": dbias}
