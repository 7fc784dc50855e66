"""What is wrong: the known mistake that gives the same numbers, the factor that is missing, where the errors are."""

import re
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from tinydistill_reference.conventions import IGNORED
from tinydistill_reference.equation import Trap, is_floating, traps
from tinydistill_reference.tolerance import C, UNITS, compare

GRADIENTS = 6                                       # cases of which gradients are compared, failed ones first
NONE = Trap("", "", "", "", "", lambda e, inputs, attrs: e.values(inputs, attrs),
            lambda e, upstream, inputs, attrs: e.gradients(upstream, inputs, attrs))


@dataclass(frozen=True)
class Match:
    """A known mistake beside what came. share: of the tensors that are wrong, or would be with this mistake, how many
    are equal to what it gives; convention: under whose settings the mistake was made."""

    trap: object
    share: float
    convention: str = "paper"


def matches(equation, outcomes, dtype, among=None, convention="paper"):
    """[Match], best first: outcomes are those of runner.run, held to this convention.

    Where no mistake explains everything, one in another convention may; it counts only if it does.
    """
    ran = _ran(outcomes)
    among, convention = traps(equation.name) if among is None else among, equation.named(convention)
    printed = _under(equation, convention)
    found = [Match(trap, _share(printed, trap, ran, dtype, convention), convention) for trap in among]
    for other in [n for n in equation.conventions if n != convention]:
        if not ran or any(match.share == 1 for match in found):
            break
        bent = _under(equation, other)
        if _is_all(bent, NONE, ran, dtype, convention):
            break                                           # it is the other convention, and no mistake
        found = [Match(m.trap, 1.0, other) if _is_all(bent, m.trap, ran, dtype, convention) else m for m in found]
    return sorted(found, key=lambda match: -match.share)


def follows(equation, outcomes, dtype, convention):
    """The first other convention that explains everything, or ""."""
    ran, others = _ran(outcomes), [name for name in equation.conventions if name != convention]
    return next((n for n in others if ran and _is_all(_under(equation, n), NONE, ran, dtype, convention)), "")


def _ran(outcomes):
    """What there is to compare: failed cases first, and those before others that hold no NaN."""
    return sorted((o for o in outcomes if o.comparisons and o.stored.case.result == "valid"),
                  key=lambda o: (o.status != "failed", not all(np.isfinite(x).all() for x in _given(o))))


def _under(equation, convention):
    """The equation as if this were the only reading of it."""
    return replace(equation, conventions={"paper": equation.conventions[convention]})


def _share(equation, trap, ran, dtype, convention):
    """Of all cases the values first; gradients are computed where most of those agree."""
    equal = []
    for i, outcome in enumerate(ran):
        equal += _compared(equation, trap, outcome, dtype, convention, False)
        if i and equal and not any(equal):
            return 0.0                                      # two cases, and nothing in common
    if 2 * sum(equal) < len(equal):
        gradients = [c for o in ran[:GRADIENTS] for c in held(o, convention)[1] if c.name not in equation.outputs]
        return sum(equal) / (len(equal) + sum(not c.passed for c in gradients))
    for outcome in ran[:GRADIENTS]:
        equal += _compared(equation, trap, outcome, dtype, convention, True)
    return sum(equal) / len(equal) if equal else 0.0


def _is_all(equation, trap, ran, dtype, convention):
    """Whether the mistake explains everything. Stops at the first case that it does not."""
    return all(all(_compared(equation, trap, outcome, dtype, convention, of_gradients))
               for of_gradients in (False, True) for outcome in (ran[:GRADIENTS] if of_gradients else ran))


def _compared(equation, trap, outcome, dtype, convention, of_gradients):
    """[whether it is equal] for every tensor of a case that came and is wrong, or would be with the mistake."""
    case, (truth, comparisons) = outcome.stored.case, held(outcome, convention)
    double, equal = _wrong(equation, trap, case, of_gradients), {}
    for c in comparisons:
        if (c.name in equation.outputs) != of_gradients:
            got, kappa = came(outcome, c.name, truth.expect.get(c.name)), truth.kappa.get(c.name, 0.0)
            x = np.asarray(double.get(c.name, np.zeros(got.shape)))
            want = truth.expect.get(c.name, np.zeros(x.shape))
            if not c.passed or not compare(c.name, x, want, kappa, dtype).passed:
                equal[c.name] = got, kappa, _equal(got, x, kappa, dtype)
    if dtype == "float32" and not all(same for _, _, same in equal.values()):
        single = _wrong(equation, trap, _single(case), of_gradients)            # what overflows there, overflows here
        return [same or _equal(got, single.get(name), kappa, dtype) for name, (got, kappa, same) in equal.items()]
    return [same for _, _, same in equal.values()]


def came(outcome, name, want):
    """A tensor that came, as an array: zeros for a gradient of None, NaN for an output that is missing."""
    got = outcome.got.get(name, np.nan)
    return np.zeros(np.shape(want)) if got is None else np.asarray(got)


def held(outcome, convention):
    """(truth, comparisons) of what the case is held to: this convention, or settings that somebody asked for."""
    name = convention if convention in outcome.comparisons else next(iter(outcome.comparisons))
    return outcome.stored.truths[name], outcome.comparisons[name]


def _wrong(equation, trap, case, of_gradients):
    with np.errstate(all="ignore"):
        return trap.gradients(equation, case.upstream, case.inputs, case.attrs) if of_gradients else \
            trap.values(equation, case.inputs, case.attrs)


def _given(outcome):
    """What came that may hold NaN."""
    return [np.asarray(x) for x in outcome.got.values() if x is not None and is_floating(x)]


def _single(case):
    return replace(case, inputs={n: x.astype(np.float32) if is_floating(x) else x for n, x in case.inputs.items()})


def _equal(got, wrong, kappa, dtype):
    if wrong is None or np.shape(got) != np.shape(wrong):
        return False
    if not is_floating(wrong):
        return np.array_equal(got, wrong)
    got, wrong = np.asarray(got, np.float64), np.asarray(wrong, np.float64)
    room = 4 * C * UNITS[dtype] * max(kappa, 4 * np.abs(wrong[np.isfinite(wrong)]).max(initial=0))
    with np.errstate(invalid="ignore"):
        return bool(((np.abs(got - wrong) <= room) | (got == wrong) | (np.isnan(got) & np.isnan(wrong))).all())


@dataclass(frozen=True)
class Factor:
    """got / want of one tensor: ratios {case: number}, where it is one number other than 1; names: what it may be."""

    ratios: dict
    names: tuple


def factor(result, name):
    """The Factor of an output or a gradient: its names fit all cases in which got / want is one number."""
    ratios, known, room = {}, [], max(1e-3, 40 * UNITS[result.dtype])
    for o in result.outcomes:
        if o.comparisons and name in o.got:
            want = held(o, result.convention)[0].expect.get(name)
            number = None if want is None else ratio(came(o, name, want), want, room)
            if number is not None:
                ratios[o.id] = number
                known.append(numbers_of(result.equation, o.stored.case, name not in result.equation.outputs))
    off = {case: r for case, r in ratios.items() if abs(r - 1) > room}
    return Factor(off, tuple(_names(np.array(list(ratios.values())), known, 2 * room)) if off else ())


def ratio(got, want, room=1e-3):
    """got / want where it is one number everywhere, or None."""
    got, want = np.asarray(got, np.float64), np.asarray(want)
    if got.shape != want.shape or not np.isfinite(got).all() or not is_floating(want):
        return None
    large = np.abs(want) > 1e-3 * np.abs(want).max(initial=0)
    if not large.any():
        return None
    with np.errstate(over="ignore"):
        found = got[large] / want[large]
    middle = float(np.median(found))
    same = np.abs(found - middle).max() <= room * abs(middle)
    same = same and np.abs(got - middle * want).max() <= room * np.abs(middle * want).max()
    return middle if same and middle else None


def numbers_of(equation, case, of_gradient):
    """{name: value} of the simple numbers of a case: its attrs, its sizes, what is counted."""
    known = {n: float(v) for n, v in (equation.attrs | case.attrs).items() if isinstance(v, (int, float)) and v > 0}
    known |= {f"{n}^2": v ** 2 for n, v in known.items()}
    for name in equation.shapes:
        if name in case.inputs:
            known |= {letter: float(n) for letter, n in zip(axes(equation, name), case.inputs[name].shape)
                      if re.fullmatch("[A-Z]'?", letter)}
    if (mask := case.inputs.get("mask")) is not None:
        known |= {"real rows": float(mask.sum()), "(real rows / all rows)": float(mask.mean())}
    if (labels := case.inputs.get("labels")) is not None:
        known["labelled rows"] = float((labels != IGNORED).sum())
    if of_gradient and isinstance(case.upstream, float):
        known["upstream gradient"] = case.upstream
    return known | {"2": 2.0, "ln 2": float(np.log(2.0))}


def _names(ratios, known, room):
    """Of all numbers, their inverses and the products of two of these, the shortest that fit every ratio."""
    single = {}
    for name in known[0]:
        if all(k.get(name) for k in known):
            single[name] = np.array([k[name] for k in known])
            single[f"1 / {name}"] = 1 / single[name]
    pairs = {_product(a, b): x * y for (a, x), (b, y) in combinations(single.items(), 2)
             if a.removeprefix("1 / ") != b.removeprefix("1 / ")}
    for some in ({"1": np.ones(len(ratios))}, single, pairs):
        found = [sign + name for name, x in some.items() for sign, r in (("", ratios), ("-", -ratios))
                 if (np.abs(r / x - 1) <= room).all()]
        if found:
            return sorted(found, key=len)[:2]
    return []


def _product(a, b):
    above, below = ([n.removeprefix("1 / ") for n in (a, b) if n.startswith("1 / ") == down] for down in (False, True))
    under = " ".join(below) if len(below) < 2 else f"({' '.join(below)})"
    return " ".join(above or "1") + f" / {under}" * bool(below)


def axes(equation, name):
    """The letters of the axes of an input, or of a gradient: ["B", "T", "V"]; none of an output."""
    shape = equation.shapes.get(name, "") or equation.shapes.get(name.removeprefix("d"), "")
    inside = shape.strip("(").partition(")")[0] if name not in equation.outputs else ""
    return [part.strip() for part in inside.split(",") if part]


def padding(equation, case, name):
    """True at the padding of a tensor, or None where it has no axis of tokens. Shapes: mask (B, T)."""
    x, letters, mask = case.inputs.get(name.removeprefix("d")), axes(equation, name), case.inputs.get("mask")
    if x is None or mask is None or mask.ndim != 2 or letters[:1] != ["B"] or len(letters) != x.ndim:
        return None
    found = np.zeros(x.shape, bool)
    for axis, letter in enumerate(letters):
        if letter == "T":
            found |= ~mask.reshape([len(mask)] + [mask.shape[1] if a == axis else 1 for a in range(1, x.ndim)])
    return found if "T" in letters else None


def places(equation, case, name, bad):
    """In words what the wrong entries have in common: "all of them padding", "all at B = 2". Or ""."""
    if bad.sum() < 2 or bad.all():
        return ""
    padded, found = padding(equation, case, name), []
    if padded is not None and padded.any() and not padded.all():
        outside = not bad[padded].any()
        found = ["all of them at padding"] if not bad[~padded].any() else ["none of them at padding"] if outside else []
    letters = axes(equation, name)
    letters = letters if len(letters) == bad.ndim else [f"axis {i}" for i in range(bad.ndim)]
    for axis, letter in enumerate(letters):
        met = np.unique(np.nonzero(bad)[axis])
        if len(met) == 1 < bad.shape[axis]:
            found.append(f"all at {letter} = {met[0]}")
    return ", ".join(found)
