"""When two numbers are equal: |got - truth| <= 32 u kappa, with u the rounding unit of the dtype, kappa of the tensor.

kappa says how large the numbers are that were added up, and how much the result moves when its inputs move by less
than they can be told apart; it is measured when a vector is made (truth.py) and stored with it. So the same rule holds
for a sum that cancels and for one that does not, in every precision, and no number in it was chosen to let a test pass.
"""

from dataclasses import dataclass

import numpy as np

C = 32
UNITS = {"float64": 2.0 ** -53, "float32": 2.0 ** -24, "float16": 2.0 ** -11, "bfloat16": 2.0 ** -9}
DTYPES = tuple(UNITS)                               # from wide to narrow


def holds(dtype, least):
    """Whether a case that needs `least` can be computed in dtype."""
    return DTYPES.index(dtype) <= DTYPES.index(least)


@dataclass(frozen=True)
class Comparison:
    """One tensor, got beside wanted. error: the largest |got - want|, in units of what is allowed; index: its place;
    bad: how many entries are wrong, of size; reason: why nothing could be compared."""

    name: str
    error: float
    allowed: float
    largest: float = 0.0
    index: tuple = ()
    bad: int = 0
    size: int = 0
    reason: str = ""

    @property
    def passed(self):
        return not self.reason and self.bad == 0


def compare(name, got, want, kappa, dtype, zero=None):
    """zero: where the truth is 0 by construction (padding), so that nothing else will do. got None: all zeros."""
    allowed = C * UNITS[dtype] * kappa
    if got is None:
        got = np.zeros(want.shape)
    got = np.asarray(got)
    if got.shape != want.shape:
        return Comparison(name, np.inf, allowed, reason=f"shape {got.shape}, need {want.shape}")
    if not np.issubdtype(want.dtype, np.floating):
        bad = got != want
        return Comparison(name, float(bad.any()) and np.inf, 0.0, float(bad.any()), _first(bad), int(bad.sum()),
                          bad.size)
    off, units = distance(got, want), units_of(got, want, kappa, dtype, zero)
    bad = units > 1
    largest = float(off.max(initial=0))
    place = np.unravel_index(int(units.argmax()), off.shape) if off.size and off.ndim else ()
    return Comparison(name, float(units.max(initial=0)), allowed, largest,
                      _first(bad) if bad.any() else tuple(map(int, place)), int(bad.sum()), bad.size)


def distance(got, want):
    """|got - want|; 0 for the same infinity and for NaN where NaN is wanted, infinite for every other of them."""
    got = np.asarray(got).astype(np.float64)
    with np.errstate(invalid="ignore"):
        off = np.abs(got - want)
    off = np.where(got == want, 0.0, np.where(np.isfinite(off), off, np.inf))
    return np.where(np.isnan(got) & np.isnan(want), 0.0, off)


def units_of(got, want, kappa, dtype, zero=None):
    """The same in units of what is allowed: above 1 is wrong. Infinite where only 0 will do and something else came."""
    off, allowed = distance(got, want), C * UNITS[dtype] * kappa
    with np.errstate(over="ignore"):
        units = off / allowed if allowed else np.where(off > 0, np.inf, 0.0)
    return units if zero is None else np.where(zero & (np.asarray(got) != 0), np.inf, units)


def _first(bad):
    return tuple(int(i) for i in np.argwhere(bad)[0]) if bad.any() and bad.ndim else ()
