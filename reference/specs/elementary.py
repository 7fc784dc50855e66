"""Arithmetic element by element: cases. The sums: `elementary.py`."""

import numpy as np

from tinydistill_reference import elementary
from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.numbers import exact

B, T, D = 3, 7, 5
REFUSED = "(?i)shape|broadcast|size|dimension"
BROADCAST = "numpy.org/doc/stable/user/basics.broadcasting.html"


def binary_cases(numbers):
    """Two arrays; b stays away from 0, so that all four operations have the same cases."""
    def case(id, comment, of_a, of_b, **settings):
        sign = 2.0 * numbers.integers(0, 2, *of_b) - 1
        b = exact(sign * (0.5 + numbers.uniform(*of_b)))
        shape = np.broadcast_shapes(of_a, of_b) if settings.get("result") != "error" else of_a
        return Case(id, comment, {"a": numbers.normal(*of_a), "b": b}, upstream=numbers.normal(*shape), **settings)

    yield case("01-plain", "two arrays of one shape", (B, T, D), (B, T, D))
    yield case("02-row", "b is one row for all", (B, T, D), (D,))
    yield case("03-middle", "b has one token for all", (B, T, D), (B, 1, D))
    yield case("04-both", "each is repeated along an axis of the other", (B, 1, D), (T, 1))
    yield case("05-one", "a is one number", (1, 1), (B, T))
    yield case("06-axis-of-one", "an axis of one number in both, which nobody repeats", (B, 1, D), (1, D))
    yield case("20-shapes", "shapes that do not broadcast", (B, T, D), (T,), result="error", error=REFUSED)


def unary_cases(*more, positive=False, scale=1.0):
    """Three rows of seven, small numbers, and those in more, (id, comment, numbers)."""
    def cases(numbers):
        def case(id, comment, x):
            x = exact(np.asarray(x))
            return Case(id, comment, {"x": x}, upstream=numbers.normal(*x.shape))

        plain, small = numbers.normal(B, T, scale=scale), numbers.normal(B, T, scale=2.0 ** -6)
        yield case("01-plain", "three rows of seven", np.abs(plain) + 0.25 if positive else plain)
        yield case("02-small", "numbers near 0", np.abs(small) + 2.0 ** -8 if positive else small)
        for id, comment, x in more:
            yield case(id, comment, x)
    return cases


def masked_cases(numbers):
    def case(id, comment, mask, **settings):
        return Case(id, comment, {"x": numbers.normal(B, T, D), "mask": mask}, upstream=numbers.normal(B, T, D),
                    **settings)

    own = numbers.uniform(B, T, D) < 0.6
    yield case("01-zeros", "0 where the mask is False", own)
    yield case("02-fill", "-3.5 there", own, attrs={"fill": -3.5})
    yield case("03-rows", "a mask of tokens, for all their numbers", own[..., :1], attrs={"fill": 0.75})
    yield case("04-all", "all is masked: a constant, with gradient 0", np.zeros((1, D), bool), attrs={"fill": 2.0})
    yield case("20-shapes", "a mask of fewer numbers", own[..., :-1], result="error", error=REFUSED + "|mask")


def binary(name, formula):
    return Equation(name, "Harris et al. 2020", "broadcasting", formula, getattr(elementary, name),
                    getattr(elementary, f"{name}_gradient"), {"a": "(B, T, D)", "b": "(B, T, D)"}, ("a", "b"),
                    binary_cases, {}, {"paper": Convention({}, BROADCAST)}, ("y",))


def unary(name, formula, cases, source="the derivative", paper="elementary", kinks=False):
    return Equation(name, paper, "by definition", formula, getattr(elementary, name),
                    getattr(elementary, f"{name}_gradient"), {"x": "(B, T)"}, ("x",), cases, {},
                    {"paper": Convention({}, source)}, ("y",), kinks)


SIGNS = ("03-zero", "0, minus 0 and numbers beside them: the slope at 0 is 0", [-2.5, -0.125, 0.0, -0.0, 0.125, 2.5])
FAR = ("03-far", "where the slope is nearly 0 or 1, and exactly 0", [-40.0, -9.5, -4.25, 0.0, 4.25, 9.5, 40.0])
SIX = ("04-six", "6, and numbers beside it: the slope at 6 is 0", [5.5, 5.9375, 6.0, 6.0625, 6.5, 300.0])

EQUATIONS = (
    binary("add", "y = a + b"),
    binary("subtract", "y = a - b"),
    binary("multiply", "y = a b"),
    binary("divide", "y = a / b"),
    unary("negative", "y = -x", unary_cases()),
    unary("absolute", "y = |x|", unary_cases(SIGNS), "0 at 0, as torch.abs has it"),
    unary("exp", "y = e^x", unary_cases(("03-apart", "numbers far apart", [-20.0, -3.5, 0.0, 1.0, 3.5, 8.0]))),
    unary("log", "y = log x", unary_cases(("03-apart", "numbers far apart, and 1", [2.0 ** -20, 0.5, 1.0, 3.0, 1e6]),
                                          positive=True), "in nats"),
    unary("sqrt", "y = sqrt x", unary_cases(("03-apart", "numbers far apart, and 1", [2.0 ** -20, 0.5, 1.0, 9.0, 1e6]),
                                            positive=True)),
    unary("tanh", "y = tanh x", unary_cases(FAR)),
    unary("relu", "y = max(x, 0)", unary_cases(SIGNS), "0 at 0, as torch.nn.functional.relu has it",
          "Nair and Hinton 2010", True),
    unary("relu6", "y = min(max(x, 0), 6)", unary_cases(SIGNS, SIX, scale=4.0),
          "0 at 0 and at 6, as torch.nn.functional.relu6 has it", "Howard et al. 2017", True),
    Equation("masked", "elementary", "by definition", "y = x where the mask is True, else fill", elementary.masked,
             elementary.masked_gradient, {"x": "(B, T, D)", "mask": "(B, T, D)"}, ("x",), masked_cases, {"fill": 0.0},
             {"paper": Convention({}, "numpy.where")}, ("y",)),
)
