"""Q8BERT: cases. The sums: `q8bert.py`."""

import numpy as np

from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.numbers import exact
from tinydistill_reference.q8bert import fake, fake_gradient, linear_in_integers

SOURCE = {"paper": Convention({}, "IntelLabs/nlp-architect nlp_architect/nn/torch/quantization.py")}
N, D, F = 7, 5, 4


def between_levels(numbers, step, *shape, most=127):
    """Numbers that are clearly nearer to one level than to any other: within 0.4 steps of it."""
    return exact((numbers.integers(-most, most + 1, *shape) + 0.8 * numbers.uniform(*shape) - 0.4) * step)


def fake_cases(numbers):
    def case(id, comment, largest, *, bits=8, most=None, x=None, **settings):
        M = 2 ** (bits - 1) - 1
        x = between_levels(numbers, largest / M, 3, 11, most=M - 1 if most is None else most) if x is None else x
        return Case(id, comment, {"x": exact(x)}, {"largest": float(exact(largest)), "bits": bits},
                    upstream=numbers.normal(*x.shape), min_dtype="float32", **settings)

    yield case("01-plain", "numbers between -1.375 and 1.375 on 255 levels", 1.375)
    yield case("02-clamped", "half of the numbers lie beyond the largest", 0.75, most=255)
    yield case("03-halves", "numbers in the middle of two levels", 127 / 64, x=(np.arange(-8, 8) + 0.5) / 64)
    yield case("04-four", "15 levels", 2.5, bits=4)
    yield case("05-two", "3 levels", 1.25, bits=2, most=2)
    own = between_levels(numbers, 2.0 ** -7, 3, 11)
    yield case("06-dynamic", "the largest magnitude is the tensor's own", np.abs(own).max(), x=own)
    yield case("07-edge", "numbers just beyond the lowest level", 127 / 64,
               x=np.array([-2.0, -1.99, -1.984375, 1.984375, 2.0]))
    yield case("08-zero", "a tensor of zeros", 0.0, x=np.zeros((3, 11)))
    yield case("09-sixteen", "65535 levels", 1.5, bits=16, most=30000)


def integer_cases(numbers):
    def case(id, comment, largest, *, bits=8, most=None, bias=500, width=D, outputs=F, **settings):
        M = 2 ** (bits - 1) - 1
        x = between_levels(numbers, largest / M, N, width, most=M - 1 if most is None else most)
        weight = between_levels(numbers, 2.0 ** -8, outputs, D, most=M - 1)
        weight[0, 0] = M * 2.0 ** -8
        unit = largest / M * 2.0 ** -8
        b = exact((numbers.integers(-bias, bias + 1, F) + 0.8 * numbers.uniform(F) - 0.4) * unit)
        return Case(id, comment, {"x": x, "weight": weight, "bias": b},
                    {"largest": float(exact(largest)), "bits": bits}, min_dtype="float32", **settings)

    yield case("01-plain", "seven rows", 1.375)
    yield case("02-clamped", "half of x lies beyond the largest", 0.75, most=255)
    yield case("03-bias", "a bias of up to 100000 units", 1.375, bias=100000)
    yield case("04-four", "15 levels", 2.5, bits=4)
    yield case("05-small", "a bias of less than a unit or two", 1.375, bias=1)
    yield case("20-shapes", "x of another width", 1.375, width=D + 1, result="error",
               error="(?i)shape|size|dimension|mismatch")


SHAPES = {"x": "(N, D)", "weight": "(F, D)", "bias": "(F,)"}
EQUATIONS = (
    Equation("fake_quantise.q8bert", "Zafrir et al. 2019", "section 3",
             "y = clamp(round(x s), -M, M) / s, M = 2^(bits-1) - 1, "
             "s = M / largest; dx = dy", fake, fake_gradient, {"x": "(N, D)"}, ("x",), fake_cases,
             {"largest": 1.0, "bits": 8}, SOURCE, ("y",), True),
    Equation("integer_linear", "Zafrir et al. 2019", "section 3",
             "y = (sum_d X_nd W_fd + round(b_f / u)) u, u = 1 / (s_x s_w)",
             linear_in_integers, None, SHAPES, (), integer_cases, {"largest": 1.0, "bits": 8}, SOURCE, ("y",), True),
)
