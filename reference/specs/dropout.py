"""Dropout: cases. The sums: `dropout.py`."""

import numpy as np

from tinydistill_reference.dropout import attention_dropout, attention_dropout_gradient, dropout, dropout_gradient
from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.numbers import lengths_to_mask, poisoned

SHAPE = 3, 7, 5
B, A, T, K, OF_VALUES = 3, 2, 5, 3, 4
SOURCE = "inverted: what is kept is divided by the probability of being kept, as in torch.nn.functional.dropout"
REFUSED = "(?i)rate|probabilit|dropout"
SHAPES = "(?i)shape|size|broadcast|dimension|bits"


def dropout_cases(numbers):
    def case(id, comment, rate, *, bits=None, **settings):
        bits = numbers.integers(0, 65536, *SHAPE) if bits is None else bits
        return Case(id, comment, {"x": numbers.normal(*SHAPE), "bits": bits}, {"rate": rate},
                    numbers.normal(*SHAPE), **settings)

    yield case("01-half", "one half is dropped", 0.5)
    yield case("02-tenth", "a tenth, which is 6554/65536", 0.1)
    yield case("03-none", "a rate of 0", 0.0)
    edge = np.resize([32767, 32768, 32769, 0, 65535], SHAPE)
    yield case("04-edge", "bits beside the threshold: at it a number is kept", 0.5, bits=edge)
    yield case("05-most", "nine tenths", 0.9)
    yield case("20-all", "a rate of 1: nothing is left to divide by", 1.0, result="error", error=REFUSED)
    yield case("21-negative", "a rate below 0", -0.25, result="error", error=REFUSED)
    yield case("22-shapes", "bits of fewer numbers", 0.5, bits=edge[..., :-1], result="error", error=SHAPES)


def attention_cases(numbers):
    def case(id, comment, rate, *, lengths=(5, 3, 2), tokens=T, **settings):
        mask = lengths_to_mask(lengths, T)
        inputs = {"queries": numbers.normal(B, A, T, K), "keys": poisoned(numbers.normal(B, A, T, K), mask),
                  "values": poisoned(numbers.normal(B, A, T, OF_VALUES), mask), "mask": mask,
                  "bits": numbers.integers(0, 65536, B, A, T, tokens)}
        return Case(id, comment, inputs, {"rate": rate}, numbers.normal(B, A, T, OF_VALUES), **settings)

    yield case("01-half", "one half of the probabilities, no padding", 0.5, lengths=(5, 5, 5))
    yield case("02-tenth", "a tenth, with padding", 0.1)
    yield case("03-none", "a rate of 0, with padding", 0.0)
    yield case("20-all", "a rate of 1", 1.0, result="error", error=REFUSED)
    yield case("21-shapes", "bits of fewer keys", 0.5, tokens=T - 1, result="error", error=SHAPES)


EQUATIONS = (
    Equation("dropout", "Srivastava et al. 2014", "section 10",
             "y_j = x_j / s where bits_j >= r, else 0; s = 1 - r/65536", dropout, dropout_gradient,
             {"x": "(B, T, D)", "bits": "(B, T, D)"}, ("x",), dropout_cases, {"rate": 0.1},
             {"paper": Convention({}, SOURCE)}, ("y",)),
    Equation("attention_dropout", "Vaswani et al. 2017", "eq. 1 and section 5.4", "Y = dropout(P) V", attention_dropout,
             attention_dropout_gradient,
             {"queries": "(B, A, T, K)", "keys": "(B, A, T, K)", "values": "(B, A, T, K')", "mask": "(B, T)",
              "bits": "(B, A, T, T)"}, ("queries", "keys", "values"), attention_cases, {"rate": 0.1},
             {"paper": Convention({}, "google-research/bert modeling.py: of the probabilities, after the softmax")},
             ("y",)),
)
