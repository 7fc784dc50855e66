"""GELU: cases. The sums: `gelu.py`."""

import numpy as np

from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.gelu import (bias_gelu, bias_gelu_gradient, gelu, gelu_gradient, gelu_new,
                                        gelu_new_gradient)
from tinydistill_reference.numbers import exact


def activation_cases(numbers):
    def case(id, comment, x, **settings):
        return Case(id, comment, {"x": exact(x)}, upstream=numbers.normal(*x.shape), **settings)

    yield case("01-grid", "-8 to 8 in steps of a quarter", np.arange(-32, 33) / 4)
    yield case("02-normal", "three rows of eleven", numbers.normal(3, 11))
    yield case("03-small", "around 0: half of x", numbers.normal(3, 11, scale=2.0 ** -10))
    yield case("04-zero", "0 and minus 0: the slope is 1/2", np.array([0.0, -0.0, 0.0]))
    yield case("05-far", "where it is 0 or x", np.array([-40.0, -20.0, -12.0, 12.0, 20.0, 40.0]), min_dtype="float32")
    yield case("06-apart", "where the exact and the tanh form differ most", np.array([-2.75, -2.25, 2.25, 2.75]))


def bias_cases(numbers):
    def case(id, comment, *shape, scale=1.0, inputs=None, **settings):
        x, bias = numbers.normal(*shape, scale=scale), numbers.normal(inputs or shape[-1])
        return Case(id, comment, {"x": x, "bias": bias}, upstream=numbers.normal(*shape), **settings)

    yield case("01-plain", "three sequences of seven tokens", 3, 7, 5)
    yield case("02-rows", "eleven rows without sequences", 11, 5)
    yield case("03-wide", "x around 0 and far from it", 3, 7, 5, scale=4.0)
    yield case("20-shapes", "a bias of another size", 3, 7, 5, inputs=4, result="error",
               error="(?i)shape|size|bias|broadcast")


def equation(name, where, formula, forward, gradient, source):
    return Equation(name, "Hendrycks and Gimpel 2016", where, formula, forward, gradient, {"x": "(B, F)"}, ("x",),
                    activation_cases, {}, {"paper": Convention({}, source)}, ("y",))


EQUATIONS = (
    equation("gelu", "eq. 1", "y = x (1 + erf(x / sqrt 2)) / 2", gelu, gelu_gradient,
             "the definition, and huggingface/transformers' \"gelu\""),
    equation("gelu_new", "section 2", "y = x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2", gelu_new,
             gelu_new_gradient, "google-research/bert modeling.py, and huggingface/transformers' \"gelu_new\""),
    Equation("bias_gelu", "Hendrycks and Gimpel 2016", "eq. 1", "y = gelu(x + b)", bias_gelu, bias_gelu_gradient,
             {"x": "(B, T, F)", "bias": "(F,)"}, ("x", "bias"), bias_cases, {},
             {"paper": Convention({}, "the exact form, as \"gelu\"")}, ("y",)),
)
