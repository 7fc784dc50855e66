"""What a case is expected to give, agreed by three witnesses; and kappa, how far rounding may move each tensor.

The truth is the printed forward and the gradient by hand in fifty digits, rounded once. It stands only if the same two
in float64, the complex step of the forward, and (of small cases every number, of others a sample) central differences
in fifty digits agree with it to 1e-12 of the tensor's kappa.

    kappa = max(4 max|truth|, max over witnesses |witness - truth| / 2^-24)

Witnesses of kappa: the printed code in float32, eight runs in float64 with every input moved by up to a unit of
float32, and four with every intermediate result rounded at random to float32.
"""

import warnings
from dataclasses import dataclass

import numpy as np

from tinydistill_reference.equation import is_floating
from tinydistill_reference.numbers import Numbers
from tinydistill_reference.witnesses import FiftyDigits, Uncertain, along, nudged, rounding, total

AGREE = 1e-12
SMALL = 60                                          # numbers of an input of which each is differentiated by itself


@dataclass(frozen=True)
class Truth:
    """expect, kappa and zero by the name of the tensor; zero is True where a gradient is 0 whatever the numbers are."""

    expect: dict
    kappa: dict
    zero: dict


class Disagreement(AssertionError):
    """The witnesses do not agree: no truth."""


def arrays(found):
    return {name: np.asarray(x) for name, x in found.items()}


def in_float64(equation, case, settings):
    """The printed code as it is."""
    return arrays(equation.everything(case.upstream, case.inputs, case.attrs, settings))


def in_fifty_digits(equation, case, settings):
    digits = FiftyDigits()
    found = equation.everything(case.upstream, digits.inputs(case.inputs), case.attrs, settings)
    return {name: digits.rounded(x) for name, x in found.items()}


def kappa(equation, case, settings, expect):
    """{tensor: kappa}. Integers have none: 0."""
    if equation.rounds:
        return {name: float(4 * np.abs(x).max(initial=0)) for name, x in expect.items()}
    random, runs = np.random.default_rng(1), []
    Uncertain.rounding = rounding(2)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        runs.append(_run(equation, case, settings, _as(np.float32, case.inputs)))
        runs += [_run(equation, case, settings, nudged(case.inputs, random)) for _ in range(8)]
        uncertain = {n: Uncertain.array(x) for n, x in case.inputs.items()}
        runs += [_run(equation, case, settings, uncertain) for _ in range(4)]
    found = {}
    for name, truth in expect.items():
        if not is_floating(truth):
            found[name] = 0.0
            continue
        finite = np.isfinite(truth)
        moved = [np.abs(run[name].astype(np.float64) - truth)[finite] for run in runs]
        moved = max((m[np.isfinite(m)].max(initial=0) for m in moved), default=0)
        found[name] = float(max(4 * np.abs(truth[finite]).max(initial=0), moved * 2.0 ** 24))
    return found


def _as(dtype, inputs):
    return {n: x.astype(dtype) if is_floating(x) else x for n, x in inputs.items()}


def _run(equation, case, settings, inputs):
    return {n: np.asarray(x) for n, x in equation.everything(case.upstream, inputs, case.attrs, settings).items()}


def structural_zeros(equation, case, settings, expect):
    """{gradient: bool}, True where it is 0 at this and at two other random points of the same masks and labels."""
    names = [n for n in expect if n.startswith("d") and n[1:] in equation.differentiable]
    if not any((expect[n] == 0).any() for n in names):
        return {}
    zero, numbers = {n: expect[n] == 0 for n in names}, Numbers(case.id, 1)
    for _ in range(2):
        moved = {n: numbers.normal(*x.shape) + 0.5 if is_floating(x) else x for n, x in case.inputs.items()}
        found = equation.gradients(case.upstream, moved, case.attrs, settings)
        zero = {n: zero[n] & (np.asarray(found[n]) == 0) for n in names}
    return {n: z for n, z in zero.items() if z.any()}


def live(equation, case, settings):
    """The truth in float64 alone: for inputs or conventions of which no vector is stored."""
    expect = in_float64(equation, case, settings)
    return Truth(expect, kappa(equation, case, settings, expect), structural_zeros(equation, case, settings, expect))


def agreed(equation, case, settings):
    """The truth to be stored. Raises Disagreement where the witnesses do not agree."""
    expect = in_fifty_digits(equation, case, settings)
    scale = kappa(equation, case, settings, expect)
    plain = in_float64(equation, case, settings)
    for name in expect:
        _must_agree(equation, case, f"float64 {name}", plain[name], expect[name], scale[name])
    if case.result != "valid" or not equation.differentiable:
        return Truth(expect, scale, structural_zeros(equation, case, settings, expect))

    def f(inputs):
        return total(case.upstream, equation.values(inputs, case.attrs, settings))

    numbers, digits = Numbers(case.id, 2), FiftyDigits()
    wide = digits.inputs(case.inputs)
    for name in equation.differentiable:
        x, dx = case.inputs[name], expect[f"d{name}"]
        for _ in range(4):
            v = numbers.normal(*x.shape)
            room = scale[f"d{name}"] * np.abs(v).sum()
            _must_agree(equation, case, f"complex step d{name}", along(f, case.inputs, [name], [v]), (dx * v).sum(),
                        room)
        if equation.rounds:
            continue
        places = [np.unravel_index(i, x.shape) for i in numbers.permutation(x.size)[:x.size if x.size <= SMALL else 6]]
        found = digits.differences(f, wide, name, places)
        _must_agree(equation, case, f"differences d{name}", found, np.array([dx[p] for p in places]), scale[f"d{name}"])
    return Truth(expect, scale, structural_zeros(equation, case, settings, expect))


def _must_agree(equation, case, what, got, want, scale):
    if not is_floating(want):
        off, fits = "", np.array_equal(got, want)
    else:
        off = np.abs(got - want).max(initial=0)
        fits = off <= AGREE * scale or (scale == 0 and off == 0)
    if not fits:
        raise Disagreement(f"{equation.name}/{case.id}: {what} is {off} away from the truth, of {scale}")
