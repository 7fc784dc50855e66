"""Vectors of length 1: cases. The sums: `unit_norm.py`."""

import numpy as np

from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.unit_norm import unit_norm, unit_norm_gradient

SHAPE = B, T, D = 3, 7, 5


def length_cases(numbers):
    def case(id, comment, x=None, **settings):
        x = numbers.normal(*SHAPE) if x is None else x
        return Case(id, comment, {"x": x}, upstream=numbers.normal(*x.shape), **settings)

    yield case("01-plain", "three sequences of seven vectors")
    yield case("02-rows", "eleven vectors", numbers.normal(11, D))
    yield case("03-large", "vectors of length 1e6", numbers.normal(*SHAPE, scale=2.0 ** 20), min_dtype="float32")
    yield case("04-small", "vectors of length 1e-7, far above eps", numbers.normal(*SHAPE, scale=2.0 ** -25),
               min_dtype="float32")
    yield case("05-below", "vectors shorter than eps = 1e-12", numbers.normal(*SHAPE, scale=2.0 ** -45),
               min_dtype="float32")
    some = numbers.normal(*SHAPE)
    some[0, 2], some[2, 5:] = 0, 0
    yield case("06-zero", "some vectors are 0: they stay 0, and their gradient is finite", some, min_dtype="float32")
    yield case("07-eps", "eps = 2: some vectors are shorter, some longer", attrs={"eps": 2.0})
    axis = np.zeros(SHAPE)
    axis[..., 1] = -0.5
    yield case("08-axis", "vectors along an axis: a gradient along them is 0", axis)


EQUATIONS = (
    Equation("unit_norm", "Sun et al. 2019", "eq. 7", "y = x / max(|x|, eps)", unit_norm, unit_norm_gradient,
             {"x": "(B, T, D)"}, ("x",), length_cases, {"eps": 1e-12},
             {"paper": Convention({}, "torch.nn.functional.normalize")}, ("y",)),
)
