"""The evidence against one case: each tensor beside what it should be, and what its wrong entries have in common."""

from dataclasses import dataclass

import numpy as np

from tinydistill_reference.diagnose import came, factor, held, places
from tinydistill_reference.tolerance import Comparison, units_of
from tinydistill_reference.words import many, number, pair, tensor, times


@dataclass(frozen=True)
class Evidence:
    """One tensor. name: as it is shown; units: |got - want| in units of what is allowed, None where nothing could be
    compared; ratio: got / want where it is one number, and names, what that may be; places: in words."""

    name: str
    comparison: Comparison
    got: np.ndarray
    want: np.ndarray
    units: np.ndarray | None = None
    ratio: float | None = None
    names: tuple = ()
    places: str = ""

    @property
    def passed(self):
        return self.comparison.passed

    @property
    def first(self):
        """(got, want) at the first wrong entry."""
        return self.got[self.comparison.index], self.want[self.comparison.index]


def evidence(result, outcome):
    """[Evidence] on a case that ran, the worst tensor first."""
    if not outcome.comparisons or result.convention not in outcome.comparisons:
        return []
    truth, comparisons = held(outcome, result.convention)
    return [_on(result, outcome, truth, c) for c in sorted(comparisons, key=lambda c: (c.passed, -c.error))]


def _on(result, outcome, truth, c):
    name, want = tensor(c.name, result.equation.outputs), truth.expect.get(c.name)
    got = came(outcome, c.name, want)
    want = np.zeros(got.shape) if want is None else want
    if c.reason:
        return Evidence(name, c, got, want)
    if np.issubdtype(want.dtype, np.floating):
        got = got.astype(np.float64)
        units = np.asarray(units_of(got, want, truth.kappa.get(c.name, 0.0), result.dtype, truth.zero.get(c.name)))
    else:
        units = np.where(got == want, 0.0, np.inf)
    if c.passed:
        return Evidence(name, c, got, want, units)
    found, where = factor(result, c.name), places(result.equation, outcome.stored.case, c.name, units > 1)
    if outcome.got.get(c.name, "") is None:
        where = "no gradient came, which is one of 0"
    return Evidence(name, c, got, want, units, found.ratios.get(outcome.id),
                    found.names if outcome.id in found.ratios else (), where)


def lines(found):
    """What is wrong with one tensor, in two lines."""
    c = found.comparison
    if c.reason:
        return [c.reason]
    spread = f", {c.bad:,} of {c.size:,} entries bad" * (c.size > 1) + f", {found.places}" * bool(found.places)
    got, want = pair(*found.first)
    where = f"first bad at [{', '.join(map(str, c.index))}]: " if c.index else ""
    return [error(found) + spread, f"{where}got {got}, expected {want}{_ratio(found)}"]


def error(found):
    """How large the error is."""
    c = found.comparison
    if bad := int((~np.isfinite(found.got) & np.isfinite(found.want)).sum()):
        return f"{many(bad, 'number is', 'numbers are')} not finite" if c.size > 1 else "not finite"
    if np.isfinite(c.error):
        return f"largest error {c.largest:.1e} = {times(c.error)} ({c.allowed:.1e})"
    return "has to be exactly equal" if not np.issubdtype(found.want.dtype, np.floating) else \
        f"largest error {c.largest:.1e} where only 0 will do"


def _ratio(found):
    got, want = map(float, found.first)
    if not np.issubdtype(found.want.dtype, np.floating):
        return ""
    if found.ratio is not None and want:
        everywhere = " everywhere" * (found.comparison.size > 1)
        return f" (ratio {number(found.ratio)}{everywhere}{' = ' * bool(found.names)}{' or '.join(found.names)})"
    return f" (ratio {number(got / want)})" if want and np.isfinite([got, want]).all() else ""
