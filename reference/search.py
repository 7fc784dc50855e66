"""Which loss gives a number: first as somebody's convention has it, then as a known mistake, then up to a factor.

    1   every equation under every convention, T^2 on and off, at the saved temperature or at usual ones; each layer
    2   sums and means over layers; totals of two losses
    3   other temperatures than the saved one, and other numbers; conventions with one setting changed
"""

from dataclasses import dataclass

import numpy as np

from tinydistill_reference.bench import CHEAP, FAILS, off, quiet
from tinydistill_reference.candidates import CONVENTION, MIXED, SQUARED, Total, computations, side_of, totals
from tinydistill_reference.diagnose import numbers_of, ratio
from tinydistill_reference.equation import Case, traps
from tinydistill_reference.tolerance import compare


@dataclass(frozen=True)
class Match:
    """What gives the number: a Total, its value, and |got - value| in units of what is allowed.

    mistake: the Trap that was made in it; factor: what its value is multiplied by, in words.
    """

    total: Total
    value: float
    units: float
    mistake: object = None
    factor: str = ""


@dataclass(frozen=True)
class GradientCheck:
    """A saved gradient beside that of a match. factor: got / wanted where that is one number; mistake: the Trap that
    gives the same."""

    name: str
    comparison: object
    factor: float | None = None
    mistake: object = None


def search(bench, numbers, targets):
    """{name: [Match]}, best first, of targets {name: (number, dtype)}."""
    wanted, found, tried = dict(targets), {}, {}

    def look(among):
        for name, (got, dtype) in list(wanted.items()):
            units = [bench.units(total, got, dtype) for total in among]
            matches = [Match(total, bench.of(total), u) for total, u in zip(among, units) if u <= 1]
            if matches:
                found[name] = sorted(matches, key=lambda m: (round(m.units, 2), m.total.rank, len(m.total.words)))
                del wanted[name]

    for ranks, others in (((CONVENTION, SQUARED), False), ((CONVENTION, SQUARED), True), ((MIXED,), False)):
        if not wanted:
            break
        each = [computations(filled, numbers, ranks, others) for filled in bench.filled.values()]
        singles, sums = [c for some, _ in each for c in some], [s for _, some in each for s in some]
        bench.compute(singles, list(wanted.values()))
        look([Total((c,)) for c in singles])
        look(sums)
        look(totals([c for c in singles if c.rank == CONVENTION and c.key in bench.values and is_last(c, bench)]))
    return found


def is_last(computation, bench):
    """Whether it is of no layer, or of the last ones."""
    layered = bench.filled[computation.equation.name].layered
    return all(computation.layers[side_of(name)] == count - 1 for name, count in layered.items())


def conventional(bench, numbers):
    """What was computed of the conventions, of the last layers: what mistakes and factors are looked for in."""
    every = (c for filled in bench.filled.values() for c in computations(filled, numbers, (CONVENTION,))[0])
    return [c for c in every if c.key in bench.values and is_last(c, bench)]


def mistakes(bench, numbers, got, dtype):
    """[Match] of the known mistakes that give this number, best first."""
    found, seen = [], set()
    for c in conventional(bench, numbers):
        at = (c.equation.name, repr(c.attrs))
        if at in seen or bench.cost(c) > max(CHEAP, bench.left):
            continue
        seen.add(at)
        inputs, attrs = bench.filled[c.equation.name].at(c.layers), c.equation.attrs | c.attrs
        for trap in traps(c.equation.name):
            try:
                with quiet():
                    value, = trap.values(c.equation, inputs, attrs).values()
                value = float(np.real(value))
            except FAILS:
                continue
            if np.isfinite(value) and (units := off(got, value, 4 * abs(value), dtype)) <= 1:
                found.append(Match(Total((c,)), value, units, mistake=trap))
    return sorted(found, key=lambda m: round(m.units, 2))


def factors(bench, numbers, got, dtype):
    """[Match] of the conventions that give this number times or divided by a simple one, best first."""
    found = []
    for c in conventional(bench, numbers):
        value = bench.values[c.key]
        case = Case("", "", bench.filled[c.equation.name].at(c.layers), c.attrs)
        known = {n: x for n, x in numbers_of(c.equation, case, False).items() if x not in (0, 1)}
        for name, x in (known | {f"1 / {n}": 1 / x for n, x in known.items()} | {"-1": -1.0}).items():
            if value and (units := off(got, value * x, 4 * abs(value * x), dtype)) <= 1:
                found.append(Match(Total((c,)), value * x, units, factor=name))
    return sorted(found, key=lambda m: (round(m.units, 2), len(m.factor)))


def check_gradients(bench, match, upstream, saved, dtypes):
    """[GradientCheck] of saved {input: gradient}; those that the candidate has no gradient for are left out."""
    total, checks = match.total, []
    for name, want in bench.gradients(total, upstream, saved).items():
        got, kappa = saved[name], 4 * float(np.abs(want).max(initial=0))
        comparison = compare(f"d{name}", got, want, kappa, dtypes[name])
        if not comparison.passed and not comparison.reason and 4 * bench.seconds_of(total) < max(CHEAP, bench.left):
            random = np.random.default_rng(0)
            moved = [bench.gradients(total, upstream, {name: got}, random)[name] - want for _ in range(4)]
            kappa = max(kappa, float(np.nanmax(np.abs(moved))) * 2.0 ** 24)
            comparison = compare(f"d{name}", got, want, kappa, dtypes[name])
        wrong = not comparison.passed and not comparison.reason
        checks.append(GradientCheck(name, comparison, ratio(got, want) if wrong else None,
                                    _mistake_of(bench, total, upstream, name, got, dtypes[name]) if wrong else None))
    return checks


def _mistake_of(bench, total, upstream, name, got, dtype):
    """The known mistake in the equation that gives this gradient, or None."""
    if len(total.parts) > 1:
        return None
    computation, = total.parts
    inputs, e = bench.filled[computation.equation.name].at(computation.layers), computation.equation
    for trap in traps(e.name):
        try:
            with quiet():
                wrong = np.asarray(trap.gradients(e, upstream, inputs, e.attrs | computation.attrs)[f"d{name}"])
        except FAILS:
            continue
        kappa = 4 * float(np.abs(wrong).max(initial=0))
        if wrong.shape == got.shape and compare(name, got, wrong, kappa, dtype).passed:
            return trap
    return None
