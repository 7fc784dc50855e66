"""The affine map: cases. The sums: `linear.py`."""

from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.linear import linear, linear_gradient

SHAPE = B, T, D = 3, 7, 5
F = 4


def linear_cases(numbers):
    def case(id, comment, *, shape=SHAPE, offset=0.0, F=F, inputs=None, **settings):
        inputs = {"x": numbers.normal(*shape, offset=offset), "weight": numbers.normal(F, inputs or shape[-1]),
                  "bias": numbers.normal(F)}
        return Case(id, comment, inputs, upstream=numbers.normal(*shape[:-1], F), **settings)

    yield case("01-plain", "three sequences of seven tokens")
    yield case("02-rows", "eleven rows without sequences", shape=(11, D))
    yield case("03-square", "as many outputs as inputs: a transposed weight fits", F=D)
    yield case("04-offset", "x around 300: large sums", offset=300.0, min_dtype="float32")
    yield case("05-one", "one output", F=1)
    yield case("20-shapes", "a weight for more inputs", inputs=D + 1, result="error",
               error="(?i)shape|size|dimension|weight|mismatch")


EQUATIONS = (
    Equation("linear", "Vaswani et al. 2017", "eq. 2", "y = x W^T + b", linear, linear_gradient,
             {"x": "(B, T, D)", "weight": "(F, D)", "bias": "(F,)"}, ("x", "weight", "bias"), linear_cases, {},
             {"paper": Convention({}, "the weight as torch.nn.Linear keeps it, outputs first")}, ("y",)),
)
