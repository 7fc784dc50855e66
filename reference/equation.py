"""Equation, Case and Trap: what the kit knows of a formula, of one example of it, and of one way to get it wrong.

An equation is two functions of the same keyword arguments: `forward`, the sums as printed, and `gradient`, derived by
hand. Its inputs are arrays under the names of the glossary (student_logits, teacher_logits, mask ...), its attrs are
numbers (temperature, eps ...), and a convention is what the paper leaves open, as keyword arguments again. Equations
are those in the tuples EQUATIONS of the files of specs/, the traps those in the tuples TRAPS of traps/.
"""

import functools
import importlib
import pkgutil
from dataclasses import dataclass, field
from typing import Callable

import numpy as np

SINGLE = ("value",)                                 # the outputs of a loss


@dataclass(frozen=True)
class Convention:
    """One reading of a formula: settings are keyword arguments of the printed function, source says whose it is."""

    settings: dict = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True)
class Equation:
    """forward(**inputs, **attrs, **settings) -> number, array or {output: array}.

    gradient(upstream, **the same) -> {input: array} for `differentiable`; upstream is the gradient of the only output,
    or {output: gradient}. Floating inputs that are not differentiable (the teacher's) must get no gradient, or zeros.
    shapes: {input: "(B, T, V)"}, in the order in which a candidate gets its arguments; attrs: {name: default}.
    conventions: {name: Convention}; the first is what a candidate is held to when it names none: `paper`, but for
    quirks of published code, which no paper has.
    cases: numbers -> Cases, made from a source of random numbers (numbers.py).
    rounds: the forward rounds to levels, and the gradient is a straight-through estimator's; or it has kinks, and cases
    that stand on them. A complex step sees the gradient, a difference does not; and a nudged number may get another
    level, so kappa is that of the values alone.
    """

    name: str
    paper: str
    equation: str
    formula: str
    forward: Callable
    gradient: Callable | None
    shapes: dict
    differentiable: tuple
    cases: Callable
    attrs: dict = field(default_factory=dict)
    conventions: dict = field(default_factory=lambda: {"paper": Convention()})
    outputs: tuple = SINGLE
    rounds: bool = False

    def named(self, convention="paper"):
        """The name of a convention: `paper` stands for the first."""
        return next(iter(self.conventions)) if convention == "paper" else convention

    def settings(self, convention="paper"):
        """The keyword arguments of a convention: by name, or as they are."""
        return self.conventions[self.named(convention)].settings if isinstance(convention, str) else convention

    def values(self, inputs, attrs, convention="paper"):
        """{output: array}."""
        found = self.forward(**inputs, **(self.attrs | attrs), **self.settings(convention))
        return found if isinstance(found, dict) else {self.outputs[0]: found}

    def gradients(self, upstream, inputs, attrs, convention="paper"):
        """{"d" + input: array}."""
        if not self.differentiable:
            return {}
        found = self.gradient(upstream, **inputs, **(self.attrs | attrs), **self.settings(convention))
        return {f"d{name}": found[name] for name in self.differentiable}

    def everything(self, upstream, inputs, attrs, convention="paper"):
        """Values and gradients."""
        return self.values(inputs, attrs, convention) | self.gradients(upstream, inputs, attrs, convention)


@dataclass(frozen=True)
class Case:
    """One example. id: two digits and a name; upstream: the gradient of the output, or {output: gradient}.

    result: "valid"; "acceptable", where several results are (`accepted` says which, beside the printed one: "nan",
    "zero"); or "error", where an implementation has to refuse, with a message that matches `error`.
    conventions: the names of those it is for, None: all. min_dtype: the narrowest dtype that can hold it.
    """

    id: str
    comment: str
    inputs: dict
    attrs: dict = field(default_factory=dict)
    upstream: object = -2.5
    result: str = "valid"
    accepted: tuple = ()
    error: str = ""
    conventions: tuple | None = None
    min_dtype: str = "bfloat16"


@dataclass(frozen=True)
class Trap:
    """A way to get an equation wrong that somebody took, or could.

    values(equation, inputs, attrs) -> {output: array}; gradients(equation, upstream, inputs, attrs) -> {"d" + input:
    array}: what this mistake computes. bug: what was done; effect: what it does to a training; source: where it was
    seen (a public issue, a file of a repository), or "constructed" where it was not. Made by mistakes.py.
    """

    equation: str
    flag: str
    bug: str
    effect: str
    source: str
    values: Callable
    gradients: Callable

    def everything(self, equation, upstream, inputs, attrs):
        return self.values(equation, inputs, attrs) | self.gradients(equation, upstream, inputs, attrs)


def _collected(package, attribute):
    """All entries of the tuples of that name in the modules of a package, in the order of names."""
    found = []
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        if not info.ispkg:
            found += getattr(importlib.import_module(f"{package.__name__}.{info.name}"), attribute, ())
    return found


@functools.cache
def equations():
    """{name: Equation}, sorted by name."""
    import tinydistill_reference.specs
    found = {e.name: e for e in _collected(tinydistill_reference.specs, "EQUATIONS")}
    return {name: found[name] for name in sorted(found)}


@functools.cache
def _traps():
    import tinydistill_reference.traps
    return _collected(tinydistill_reference.traps, "TRAPS")


def traps(equation=None):
    """All traps, or those of one equation (by name)."""
    return [t for t in _traps() if equation in (None, t.equation)]


def is_floating(array):
    return np.issubdtype(np.asarray(array).dtype, np.inexact) or np.asarray(array).dtype == object
