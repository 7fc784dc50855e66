"""Losses of logits that are made some rows at a time: cases. The sums: `chunked.py`."""

import numpy as np

from tinydistill_reference import chunked
from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.numbers import exact

N, D, OF_TEACHER, V = 7, 3, 4, 5
SOURCE = "tinydistill/ops/chunked.py; a sum: its divisors stand in the weights, or outside"
SHAPES = "(?i)shape|size|weight|teacher|class|dimension"
ATTRS = {"rows_per_chunk": 256, "biased": True}


def divergence_cases(numbers):
    def case(id, comment, *, teachers=V, teacher_rows=N, weights=None, **settings):
        inputs = {"hidden": numbers.normal(N, D), "weight": numbers.normal(V, D), "bias": numbers.normal(V),
                  "teacher_hidden": numbers.normal(teacher_rows, OF_TEACHER),
                  "teacher_weight": numbers.normal(teachers, OF_TEACHER), "teacher_bias": numbers.normal(teachers),
                  "row_weights": exact(numbers.uniform(N) + 0.25) if weights is None else weights}
        return Case(id, comment, inputs, **settings)

    yield case("01-at-once", "all rows in one chunk", upstream=1.0)
    yield case("02-chunks", "three rows a chunk, of which the last has one", attrs={"rows_per_chunk": 3})
    yield case("03-one", "one row a chunk, at T = 2", attrs={"rows_per_chunk": 1, "temperature": 2.0})
    yield case("04-no-bias", "no bias on either side, two rows a chunk", attrs={"rows_per_chunk": 2, "biased": False})
    yield case("05-weights", "rows of weight 0, and T = 0.5", attrs={"rows_per_chunk": 3, "temperature": 0.5},
               weights=np.array([0, 1, 0.5, 0, 0.25, 2, 0.75]))
    yield case("20-classes", "a teacher of one class, which would broadcast", teachers=1, result="error", error=SHAPES)
    yield case("21-rows", "a teacher of one row, which would broadcast", teacher_rows=1, result="error", error=SHAPES)
    yield case("22-no-rows", "minus one row a chunk: a loop that never runs", attrs={"rows_per_chunk": -1},
               result="error", error="(?i)row|chunk")


def entropy_cases(numbers):
    def case(id, comment, labels=None, **settings):
        inputs = {"hidden": numbers.normal(N, D), "weight": numbers.normal(V, D), "bias": numbers.normal(V),
                  "labels": numbers.integers(0, V, N) if labels is None else np.array(labels)}
        return Case(id, comment, inputs, **settings)

    yield case("01-at-once", "all rows in one chunk", upstream=1.0)
    yield case("02-chunks", "three rows a chunk, of which the last has one", attrs={"rows_per_chunk": 3})
    yield case("03-ignored", "rows without a label, one row a chunk", [3, -100, 0, -100, 1, 4, 2],
               attrs={"rows_per_chunk": 1})
    yield case("04-no-bias", "no bias, two rows a chunk", attrs={"rows_per_chunk": 2, "biased": False})
    yield case("05-first-chunk", "a chunk without any label", [-100, -100, 1, 4, 2, 0, 3], attrs={"rows_per_chunk": 2})
    yield case("20-label", "a label that is no class", [0, 1, V, 2, 3, 4, 0], result="error",
               error="(?i)label|class|range|bound")
    yield case("21-shapes", "one label for all rows", [2], result="error", error="(?i)shape|size|label|batch")
    yield case("22-no-rows", "minus one row a chunk: a loop that never runs", attrs={"rows_per_chunk": -1},
               result="error", error="(?i)row|chunk")


LEARNED = {"hidden": "(N, D)", "weight": "(V, D)", "bias": "(V,)"}
EQUATIONS = (
    Equation("linear_kl_divergence", "Hinton, Vinyals and Dean 2015", "section 2",
             "sum_n w_n KL(softmax(z'_n / T) || softmax(z_n / T)), z = h W^T + b", chunked.linear_kl_divergence,
             chunked.linear_kl_divergence_gradient,
             LEARNED | {"teacher_hidden": "(N, D')", "teacher_weight": "(V, D')", "teacher_bias": "(V,)",
                        "row_weights": "(N,)"}, tuple(LEARNED), divergence_cases, ATTRS | {"temperature": 1.0},
             {"paper": Convention({}, SOURCE)}, ("y",)),
    Equation("linear_cross_entropy", "Devlin et al. 2019", "section 3.1", "-sum_n log softmax(h_n W^T + b)_label",
             chunked.linear_cross_entropy, chunked.linear_cross_entropy_gradient, LEARNED | {"labels": "(N,)"},
             tuple(LEARNED), entropy_cases, ATTRS, {"paper": Convention({}, SOURCE)}, ("y",)),
)
