"""Run an implementation over the vectors of an equation and compare, case by case, under every convention.

An implementation is one function, which adapters/ make out of a person's own:

    call(equation, attrs, inputs, grads, upstream, dtype) -> {"value": ..., "dstudent_logits": ...}

equation: its name; attrs: {name: number}; inputs: {name: array}, floats in float64; grads: the inputs of which
gradients are asked; upstream: the gradient of the output, or {output: gradient}; dtype: what to compute in. The answer
may leave gradients out, and then they are not tested, and the report says so. NotImplemented skips the case.
"""

import re
import warnings
from dataclasses import dataclass, field, replace

import numpy as np

from tinydistill_reference import store
from tinydistill_reference.equation import is_floating
from tinydistill_reference.tolerance import compare, holds
from tinydistill_reference.truth import Truth, live


@dataclass(frozen=True)
class Outcome:
    """One case. status: "passed", "failed", "acceptable" (a result that is another's convention), "skipped", "refused"
    (an error case that raised as it should), "unrefused" (one that did not), "announced" (a failure that --xfail has).

    got: what came back; comparisons: {convention: [Comparison]}, for those that the case is for; words: why.
    """

    stored: store.Stored
    status: str
    got: dict = field(default_factory=dict)
    comparisons: dict = field(default_factory=dict)
    words: str = ""

    @property
    def id(self):
        return self.stored.case.id


@dataclass(frozen=True)
class Result:
    """An equation. convention: what it was held to, a name or "asked", and its settings; follows: the first convention
    under which every case that ran passes, or ""; untested: gradients that never came; bound: how the inputs were given
    to it, in words; version: of the vectors; leaks: inputs that got a gradient though they are constants."""

    equation: object
    dtype: str
    convention: str
    outcomes: tuple
    follows: str = ""
    untested: tuple = ()
    bound: str = ""
    settings: dict = field(default_factory=dict)
    version: str = store.VERSION
    leaks: tuple = ()

    def of(self, *statuses):
        return [o for o in self.outcomes if o.status in statuses]

    @property
    def status(self):
        """"passed", "failed", or "nothing" where no case could be run."""
        if self.of("failed"):
            return "failed"
        return "passed" if self.of("passed", "acceptable", "announced") else "nothing"


def run(equation, call, dtype="float64", convention="paper", version=store.VERSION, stored=None, strict=False):
    """convention: a name, "any" of the equation's, or {setting: value}, for which the truth is computed here and now.

    strict: a gradient for a constant, such as the teacher's logits, is a failure. Else it is noted: those that leave
    it to their caller to detach the teacher are right in what they compute.
    """
    stored = store.load(equation.name, version) if stored is None else stored
    if hasattr(call, "bind"):
        call.bind(equation)                         # a function that does not fit fails here, not in every case
    if asked := isinstance(convention, dict):
        settings, names = equation.settings() | convention, ("asked",)
        stored, convention = [_under(equation, s, settings) for s in stored], "asked"
    elif (convention := equation.named(convention)) in ("any", *equation.conventions):
        names = tuple(equation.conventions)
    else:
        raise ValueError(f"need a convention out of {', '.join(equation.conventions)}, any; got {convention!r}")
    outcomes = [_outcome(equation, s, call, dtype, names) for s in stored]
    leaks = _leaks(equation, outcomes)
    outcomes = outcomes if strict else [_without(o, leaks) for o in outcomes]
    ran = [o for o in outcomes if o.comparisons]
    follows = next((n for n in names if _followed(ran, n)), "")
    held_to = convention if convention != "any" else follows or names[0]
    outcomes = tuple(_judged(o, held_to) for o in outcomes)
    came = {name for o in outcomes for name in o.got}
    untested = tuple(n for n in (f"d{x}" for x in equation.differentiable) if came and n not in came)
    return Result(equation, dtype, held_to, outcomes, follows, untested, getattr(call, "bound", ""),
                  settings if asked else equation.settings(held_to), version, leaks)


def _leaks(equation, outcomes):
    """The constants that got a gradient other than 0."""
    bad = {c.name[1:] for o in outcomes for found in o.comparisons.values() for c in found if not c.passed}
    return tuple(n for n in equation.shapes if n in bad and n not in equation.differentiable)


def _without(outcome, leaks):
    """An outcome of which the gradients of these inputs are not judged."""
    return replace(outcome, comparisons={convention: [c for c in found if c.name[1:] not in leaks]
                                         for convention, found in outcome.comparisons.items()})


def _under(equation, stored, settings):
    """A stored case with the truth of settings that no vector has."""
    case = stored.case
    truth = Truth({}, {}, {}) if case.result == "error" else live(equation, case, settings)
    return replace(stored, truths={"asked": truth})


def _outcome(equation, stored, call, dtype, names):
    case = stored.case
    if not holds(dtype, case.min_dtype):
        return Outcome(stored, "skipped", words=f"needs {case.min_dtype}")
    if case.result != "error" and not any(n in stored.truths for n in names):
        return Outcome(stored, "skipped", words="is not for this convention")
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            got = call(equation.name, equation.attrs | case.attrs, dict(case.inputs), equation.differentiable,
                       case.upstream, dtype)
    except Exception as problem:
        words = f"{type(problem).__name__}: {problem}".strip()
        if case.result == "error":
            named = re.search(case.error, str(problem))
            return Outcome(stored, "refused", words="" if named else f"without naming what was wrong: {words}")
        return Outcome(stored, "failed", words=f"raised {words}")
    if got is NotImplemented:
        return Outcome(stored, "skipped", words="does not take what this case gives")
    if odd := [n for n, x in got.items() if x is not None and np.asarray(x).dtype.kind not in "biuf"]:
        return Outcome(stored, "failed", words=f"gave {type(got[odd[0]]).__name__} for {odd[0]}, need numbers")
    if case.result == "error":
        return Outcome(stored, "unrefused", got, words=f"{case.comment}: not refused")
    return Outcome(stored, "ran", got,
                   {n: compared(equation, stored, n, got, dtype) for n in names if n in stored.truths})


def compared(equation, stored, convention, got, dtype):
    """[Comparison] of every output, of every gradient that came, and of those that must not come."""
    truth, found = stored.truths[convention], []
    for name, want in truth.expect.items():
        if name in equation.outputs or name in got:
            found.append(compare(name, got.get(name, np.nan), want, truth.kappa[name], dtype, truth.zero.get(name)))
    for name, x in stored.case.inputs.items():
        if is_floating(x) and name not in equation.differentiable and got.get(f"d{name}") is not None:
            found.append(compare(f"d{name}", got[f"d{name}"], np.zeros(x.shape), 0.0, dtype))
    return found


def _passes(outcome, convention):
    return convention not in outcome.comparisons or all(c.passed for c in outcome.comparisons[convention])


def _followed(ran, convention):
    """Whether some cases pass under a convention, and none fails."""
    found = [_judged(o, convention).status for o in ran]
    return "passed" in found and "failed" not in found


def _judged(outcome, convention):
    """With a status, for what ran."""
    if outcome.status in ("refused", "unrefused") and convention not in outcome.stored.truths:
        return replace(outcome, status="skipped", words="is not for this convention")
    if outcome.status != "ran":
        return outcome
    if convention not in outcome.comparisons:
        return replace(outcome, status="skipped", words="is not for this convention")
    if _passes(outcome, convention):
        return replace(outcome, status="passed")
    case, value = outcome.stored.case, np.asarray(next(iter(outcome.got.values())), np.float64)
    for word, is_so in (("nan", np.isnan(value).any()), ("zero", (value == 0).all())):
        if case.result == "acceptable" and word in case.accepted and is_so:
            return replace(outcome, status="acceptable", words=f"{word} is another convention")
    return replace(outcome, status="failed")
