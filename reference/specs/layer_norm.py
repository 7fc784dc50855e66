"""Layer normalisation: cases. The sums: `layer_norm.py`."""

import numpy as np

from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.layer_norm import (layer_norm, layer_norm_gradient, layer_norm_residual,
                                              layer_norm_residual_gradient)
from tinydistill_reference.numbers import exact

SHAPE = B, T, D = 3, 7, 5


def norm_cases(numbers):
    def case(id, comment, x=None, *, gain=None, **settings):
        x = numbers.normal(*SHAPE) if x is None else x
        gain = numbers.normal(D, scale=0.5, offset=1.0) if gain is None else gain
        return Case(id, comment, {"x": x, "gain": gain, "bias": numbers.normal(D)}, upstream=numbers.normal(*x.shape),
                    **settings)

    yield case("01-plain", "three sequences of seven tokens")
    yield case("02-eps", "eps = 1e-5, PyTorch's default", attrs={"eps": 1e-5})
    yield case("03-offset", "x around 1000", numbers.normal(*SHAPE, offset=1000.0), min_dtype="float32")
    yield case("04-tiny", "a variance of 1e-6", numbers.normal(*SHAPE, scale=2.0 ** -10), min_dtype="float32")
    yield case("05-tiny-eps", "a variance of 1e-6 and eps = 1e-5", numbers.normal(*SHAPE, scale=2.0 ** -10),
               attrs={"eps": 1e-5}, min_dtype="float32")
    yield case("06-as-eps", "a variance as small as eps = 1e-12", numbers.normal(*SHAPE, scale=2.0 ** -20),
               min_dtype="float32")
    constant = np.broadcast_to(numbers.normal(B, T, 1), SHAPE).copy()
    yield case("07-constant", "rows of one number: no variance at all", exact(np.round(constant * 8) / 8),
               min_dtype="float32")
    yield case("08-constant-eps", "the same with eps = 1e-5", exact(np.round(constant * 8) / 8), attrs={"eps": 1e-5},
               min_dtype="float32")
    yield case("09-large", "x times 1024: the same y", numbers.normal(*SHAPE, scale=1024.0), min_dtype="float32")
    yield case("10-rows", "eleven rows without sequences", numbers.normal(11, D))
    yield case("20-shapes", "a gain of another size", gain=np.ones(D - 1), result="error",
               error="(?i)shape|size|gain|broadcast")


def residual_cases(numbers):
    def case(id, comment, x=None, *, residual=SHAPE, **settings):
        x = numbers.normal(*SHAPE) if x is None else x
        inputs = {"x": x, "residual": numbers.normal(*residual), "gain": numbers.normal(D, scale=0.5, offset=1.0),
                  "bias": numbers.normal(D)}
        return Case(id, comment, inputs, upstream=numbers.normal(*x.shape), **settings)

    yield case("01-plain", "three sequences of seven tokens")
    yield case("02-eps", "eps = 2^-10", attrs={"eps": 2.0 ** -10})
    yield case("03-offset", "x around 300", numbers.normal(*SHAPE, offset=300.0), min_dtype="float32")
    yield case("04-rows", "eleven rows without sequences", numbers.normal(11, D), residual=(11, D))
    yield case("20-shapes", "a residual of one row for all", residual=(D,), result="error",
               error="(?i)shape|size|residual")


EQUATIONS = (
    Equation("layer_norm", "Ba, Kiros and Hinton 2016", "eq. 4",
             "y = gain (x - mu) / sqrt(1/D sum (x - mu)^2 + eps) + bias",
             layer_norm, layer_norm_gradient, {"x": "(B, T, D)", "gain": "(D,)", "bias": "(D,)"}, ("x", "gain", "bias"),
             norm_cases, {"eps": 1e-12},
             {"paper": Convention({}, "google-research/bert modeling.py: eps inside the root, the biased variance")},
             ("y",)),
    Equation("layer_norm_residual", "Vaswani et al. 2017", "section 3.1", "y = layer_norm(x + residual)",
             layer_norm_residual, layer_norm_residual_gradient,
             {"x": "(B, T, D)", "residual": "(B, T, D)", "gain": "(D,)", "bias": "(D,)"},
             ("x", "residual", "gain", "bias"), residual_cases, {"eps": 1e-12},
             {"paper": Convention({}, "google-research/bert modeling.py: the norm follows the addition")}, ("y",)),
)
