"""Weighted squared error: cases. The sums: `squared_error.py`."""

import numpy as np

from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.numbers import exact, lengths_to_mask, poisoned
from tinydistill_reference.squared_error import squared_error, squared_error_gradient

SHAPE = B, T, D = 3, 7, 5


def error_cases(numbers):
    def case(id, comment, *, student=None, teacher=None, weight=None, shape=SHAPE, **settings):
        weight = numbers.uniform(*shape[:-1]) + 0.25 if weight is None else weight
        student = numbers.normal(*shape) if student is None else student
        teacher = numbers.normal(*shape) if teacher is None else teacher
        return Case(id, comment, {"student": student, "teacher": teacher, "weight": exact(weight)}, **settings)

    mask = lengths_to_mask((7, 4, 2), T)
    yield case("01-plain", "weights of 1, an upstream gradient of 1", weight=np.ones((B, T)), upstream=1.0)
    yield case("02-weights", "every row has its own weight")
    yield case("03-mean", "a mean over the real rows: weights 1/13, and 0 at padding", weight=mask / mask.sum(),
               student=poisoned(numbers.normal(*SHAPE), mask), teacher=poisoned(numbers.normal(*SHAPE), mask))
    same = numbers.normal(*SHAPE)
    yield case("04-equal", "teacher and student are equal: 0, with gradient 0", student=same, teacher=same)
    yield case("05-offset", "both around 300: the difference cancels", student=numbers.normal(*SHAPE, offset=300.0),
               teacher=numbers.normal(*SHAPE, offset=300.0), min_dtype="float32")
    yield case("06-rows", "eleven rows without sequences", shape=(11, D))
    yield case("20-shapes", "a teacher of another width", teacher=numbers.normal(B, T, D + 1), result="error",
               error="(?i)shape|size|teacher|broadcast")


EQUATIONS = (
    Equation("squared_error", "Romero et al. 2015", "eq. 3", "sum_n w_n sum_j (s_nj - t_nj)^2", squared_error,
             squared_error_gradient, {"student": "(B, T, D)", "teacher": "(B, T, D)", "weight": "(B, T)"}, ("student",),
             error_cases, {}, {"paper": Convention({}, "a sum; divisors stand in the weights")}, ("y",)),
)
