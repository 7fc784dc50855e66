"""Tokens beside their neighbours: cases. The sums: `trigram.py`."""

from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.trigram import trigram, trigram_gradient

B, T, E = 3, 7, 5


def trigram_cases(numbers):
    def case(id, comment, *shape, **settings):
        x = numbers.normal(*shape)
        return Case(id, comment, {"x": x}, upstream=numbers.normal(*shape[:-1], 3 * shape[-1]), **settings)

    yield case("01-plain", "three sequences of seven tokens", B, T, E)
    yield case("02-two", "two tokens: each has one neighbour", B, 2, E)
    yield case("03-one", "one token: no neighbours at all", B, 1, E)
    yield case("04-narrow", "one number a token", 2, 5, 1)
    yield case("20-shapes", "x without sequences", T, E, result="error", error="(?i)shape|dim|axes|unpack|expected")


EQUATIONS = (
    Equation("trigram", "Sun et al. 2020", "embedding factorization", "y_t = [x_{t+1}, x_t, x_{t-1}]", trigram,
             trigram_gradient, {"x": "(B, T, E)"}, ("x",), trigram_cases, {},
             {"paper": Convention({}, "google-research/google-research mobilebert/modeling.py: the next token first")},
             ("y",)),
)
