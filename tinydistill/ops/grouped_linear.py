"""The affine map in groups. Equations: `kernels/grouped_linear.py`."""

from tinydistill import kernels
from tinydistill.tensor import op


@op
def grouped_linear(x, weight, bias, *, groups):
    """y_g = x_g W_g^T + b_g: outputs of a group read the inputs of that group alone; with one group, `linear`.

    Shapes: x (..., D), weight (F, D/groups) as of a 1x1 convolution, bias (F,) or None, y (..., F).
    Raises: ValueError where D is not what weight and groups make it, or the groups do not divide F.
    """
    F, inputs = weight.shape
    if x.shape[-1] != groups * inputs or F % groups:
        raise ValueError(f"need x (..., D) and weight (F, D/{groups}) with an F that {groups} groups divide: "
                         f"x {x.shape}, weight {weight.shape}")
    kernel = kernels.of(x)
    parts = x.reshape(-1, groups, inputs).swapaxes(0, 1)                # (G, N, D/G)
    blocks = weight.reshape(groups, F // groups, inputs)                # (G, F/G, D/G)

    def pullback(dy):
        dparts = dy.reshape(-1, groups, F // groups).swapaxes(0, 1)     # (G, N, F/G)
        return (lambda: kernel.grouped_linear(dparts, blocks.swapaxes(1, 2), None).reshape(x.shape),
                lambda: (dparts.swapaxes(1, 2) @ parts).reshape(weight.shape),
                None if bias is None else lambda: kernel.row_sums(dy.reshape(-1, F).T))

    return kernel.grouped_linear(parts, blocks, bias).reshape(*x.shape[:-1], F), pullback
