"""Dropout from bits that are handed in: which units drop is decided by `Pass.bits`, not here."""

from tinydistill import kernels
from tinydistill.tensor import op


def kept(bits, rate):
    """(keep, keep probability) of a dropout rate from uniform 16-bit integers.

    The rate is rounded to 1/65536 and the scale uses the rounded one, so the mean is exact.
    """
    threshold = round(rate * 65536)
    if not 0 <= threshold < 65536:
        raise ValueError(f"need a dropout rate of at least 0 and below 1, got {rate}")
    return bits >= threshold, 1 - threshold / 65536


@op
def dropout(x, *, bits, rate):
    """y = x / (1 - rate) where kept, 0 where dropped. Shapes: bits the shape of x, uint16."""
    kernel = kernels.of(x)
    keep, keep_probability = kept(bits, rate)
    return kernel.dropout(x, keep, keep_probability), lambda dy: (kernel.dropout(dy, keep, keep_probability),)
