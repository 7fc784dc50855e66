"""The affine map in groups: y_g = x_g W_g^T + b_g, each of G equal slices of the outputs from its slice of the inputs.

That is a block-diagonal W and, on channels, a 1x1 convolution in groups.
Shapes: x (G, N, D/G), blocks (G, F/G, D/G), bias (F,) or None, y (N, F).
"""

import numpy as np


def grouped_linear(x, blocks, bias):
    y = x @ blocks.swapaxes(1, 2)                                       # (G, N, F/G)
    y = y.swapaxes(0, 1).reshape(x.shape[1], blocks.shape[0] * blocks.shape[1])         # (N, F)
    return y if bias is None else y + bias


def grouped_linear_numpy(x, blocks, bias):
    """The same, each group's product written where it belongs."""
    groups, outputs, _ = blocks.shape
    y = np.empty((x.shape[1], groups, outputs), x.dtype)
    np.matmul(x, blocks.swapaxes(1, 2), out=y.swapaxes(0, 1))           # (G, N, F/G)
    y = y.reshape(len(y), groups * outputs)                             # (N, F)
    if bias is not None:
        y += bias
    return y
