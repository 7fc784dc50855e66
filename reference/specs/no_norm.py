"""NoNorm: cases. The sums: `no_norm.py`."""

import numpy as np

from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.no_norm import no_norm, no_norm_gradient, no_norm_residual, no_norm_residual_gradient

SHAPE = B, T, D = 3, 7, 5


def no_norm_cases(numbers):
    def case(id, comment, x=None, *, gain=None, **settings):
        x = numbers.normal(*SHAPE) if x is None else x
        gain = numbers.normal(D) if gain is None else gain
        return Case(id, comment, {"x": x, "gain": gain, "bias": numbers.normal(D)}, upstream=numbers.normal(*x.shape),
                    **settings)

    yield case("01-plain", "three sequences of seven tokens")
    yield case("02-rows", "eleven rows without sequences", numbers.normal(11, D))
    yield case("03-new", "a gain of 1, as before training", gain=np.ones(D))
    yield case("04-closed", "a gain of 0: no gradient reaches x", gain=np.zeros(D))
    yield case("05-offset", "x around 300: the gain's gradient is a large sum", numbers.normal(*SHAPE, offset=300.0),
               min_dtype="float32")
    yield case("20-shapes", "a gain of another size", gain=np.ones(D - 1), result="error",
               error="(?i)shape|size|gain|broadcast")


def residual_cases(numbers):
    def case(id, comment, *, shape=SHAPE, residual=None, **settings):
        inputs = {"x": numbers.normal(*shape), "residual": numbers.normal(*(residual or shape)),
                  "gain": numbers.normal(D), "bias": numbers.normal(D)}
        return Case(id, comment, inputs, upstream=numbers.normal(*shape), **settings)

    yield case("01-plain", "three sequences of seven tokens")
    yield case("02-rows", "eleven rows without sequences", shape=(11, D))
    yield case("03-one", "one token", shape=(1, 1, D))
    yield case("20-shapes", "a residual of one row for all", residual=(D,), result="error",
               error="(?i)shape|size|residual")


EQUATIONS = (
    Equation("no_norm", "Sun et al. 2020", "section on operational optimizations", "y = gain x + bias", no_norm,
             no_norm_gradient, {"x": "(B, T, D)", "gain": "(D,)", "bias": "(D,)"}, ("x", "gain", "bias"), no_norm_cases,
             {}, {"paper": Convention({}, "google-research/google-research mobilebert/modeling.py")}, ("y",)),
    Equation("no_norm_residual", "Sun et al. 2020", "section on operational optimizations",
             "y = gain (x + residual) + bias", no_norm_residual, no_norm_residual_gradient,
             {"x": "(B, T, D)", "residual": "(B, T, D)", "gain": "(D,)", "bias": "(D,)"},
             ("x", "residual", "gain", "bias"), residual_cases, {},
             {"paper": Convention({}, "google-research/google-research mobilebert/modeling.py")}, ("y",)),
)
