"""The affine map y = x W^T + b. Shapes: x (N, D), weight (F, D), bias (F,) or None, y (N, F)."""


def linear(x, weight, bias):
    y = x @ weight.T
    return y if bias is None else y + bias


def linear_numpy(x, weight, bias):
    """The same, the bias added where the product stands."""
    y = x @ weight.T
    if bias is not None:
        y += bias
    return y
