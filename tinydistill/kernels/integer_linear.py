"""The affine map in integers: what a fake quantised y = x W^T + b stands for.

    y = (sum_d X_fd W_fd + B_f) u        X = clamp(round(x s), -M, M)    B = round(b / u)    u = step / s    s = M / r

X and W are 8-bit integers, their sums and B 32-bit ones; `step` is what 1 in W stands for, 1 / s what 1 in X does. The
sum is exact: products are at most 127^2 = 16,129, so 66,000 of them and a B held at 2^30 stay below 2^31. Shapes: x
(N, D) floating, W (F, D) int8, r and step () of x's dtype, b (F,) or None, y (N, F).

NumPy has no fast product of integers: its own loops take 45 times as long as BLAS takes for float32 (128 x 768 by
768 x 768). But float32 counts exactly up to 2^24 = 1,040 * 16,129 + 2,656, so a BLAS product of up to 1,040 columns
of such integers is exact too, in whatever order it sums. Blocks of that many columns are added up as int32. For 4,096
rows on two cores of an AMD EPYC, in ms, product alone / this: 768 to 768 24 / 26, 768 to 3072 97 / 107, 3072 to 768
93 / 105. Eight bits are a quarter of the memory, and no faster.
"""

import numpy as np

from tinydistill.backend import xp_of
from tinydistill.kernels.fake_quantise import SMALLEST, levels, levels_numpy

EXACT = 2 ** 24 // 127 ** 2                         # 1040 columns: their products sum to less than 2^24
LARGEST_BIAS = 2 ** 30


def integer_linear(x, largest, weight, step, bias, bits):
    """bits: of x. The product is NumPy's or CuPy's own for int32."""
    xp = xp_of(x)
    total = levels(x, largest, bits).astype(xp.int32) @ weight.T.astype(xp.int32)
    return _finished(total, x.dtype, largest, step, bias, bits)


def integer_linear_numpy(x, largest, weight, step, bias, bits):
    """The same integers from float32 products."""
    codes, total = levels_numpy(x, largest, bits).astype(np.float32, copy=False), None
    for first in range(0, x.shape[1], EXACT):
        columns = slice(first, first + EXACT)
        part = (codes[:, columns] @ weight[:, columns].T.astype(np.float32)).astype(np.int32)
        total = part if total is None else total + part
    return _finished(total, x.dtype, largest, step, bias, bits)


def _finished(total, dtype, largest, step, bias, bits):
    """(total + B) u."""
    xp = xp_of(total)
    unit = step * (xp.maximum(largest, SMALLEST) / (2 ** (bits - 1) - 1))
    if bias is not None:
        exact = xp.rint(bias.astype(xp.float64) / unit)             # float32 has no integer of every size up to 2^30
        total = total + xp.clip(exact, -LARGEST_BIAS, LARGEST_BIAS).astype(xp.int32)
    return total.astype(dtype) * unit
