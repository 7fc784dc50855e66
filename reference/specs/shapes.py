"""Sums, products and moves: cases. The sums: `shapes.py`."""

import numpy as np

from tinydistill_reference import shapes
from tinydistill_reference.equation import Case, Convention, Equation

SHAPE = B, T, D = 3, 7, 5
V = 11


def sum_cases(numbers):
    def case(id, comment, *, of=None, axis=None, keepdims=False, **settings):
        x, attrs = numbers.normal(*SHAPE), {"axis": axis, "keepdims": keepdims}
        upstream = -2.5 if of is None else numbers.normal(*of)
        return Case(id, comment, {"x": x}, attrs, upstream, **settings)

    yield case("01-all", "over everything")
    yield case("02-middle", "over tokens", of=(B, D), axis=1)
    yield case("03-kept", "over tokens, whose axis is kept", of=(B, 1, D), axis=1, keepdims=True)
    yield case("04-last", "over the last axis, as -1", of=(B, T), axis=-1)
    yield case("05-first", "over the first axis", of=(T, D), axis=0)
    yield case("20-axis", "an axis that is not there", axis=3, result="error", error="(?i)axis|dimension")


def matmul_cases(numbers):
    def case(id, comment, of_a, of_b, of=(), **settings):
        return Case(id, comment, {"a": numbers.normal(*of_a), "b": numbers.normal(*of_b)}, upstream=numbers.normal(*of),
                    **settings)

    yield case("01-plain", "two matrices", (B, T), (T, D), (B, D))
    yield case("02-batch", "three products at once", (B, T, D), (B, D, 2), (B, T, 2))
    yield case("03-shared", "b is one matrix for all", (B, T, D), (D, 2), (B, T, 2))
    yield case("04-both", "each is repeated along an axis of the other", (B, 1, T, D), (2, D, 4), (B, 2, T, 4))
    yield case("05-square", "square matrices, which fit when transposed, too", (B, D, D), (B, D, D), (B, D, D))
    yield case("20-shapes", "sizes that do not fit", (B, T), (D, T), result="error",
               error="(?i)shape|size|dimension|mismatch")


def concatenate_cases(numbers):
    def case(id, comment, axis, *parts, of=(), **settings):
        inputs = dict(zip(("first", "second", "third"), (numbers.normal(*shape) for shape in parts)))
        return Case(id, comment, inputs, {"axis": axis}, numbers.normal(*of), **settings)

    yield case("01-first", "rows under rows", 0, (2, D), (4, D), (B, D), of=(9, D))
    yield case("02-last", "beside each other, as -1", -1, (B, 4), (B, 1), (B, 2), of=(B, 7))
    yield case("03-middle", "tokens after tokens", 1, (B, 2, D), (B, 1, D), (B, 4, D), of=(B, T, D))
    yield case("04-equal", "three parts of one size", 1, (B, 2), (B, 2), (B, 2), of=(B, 6))
    yield case("20-shapes", "parts of different widths", 0, (2, D), (2, D + 1), (2, D), result="error",
               error="(?i)shape|size|dimension|match")


def take_cases(numbers):
    def case(id, comment, index, **settings):
        return Case(id, comment, {"x": numbers.normal(V, D), "index": index}, upstream=numbers.normal(*index.shape, D),
                    **settings)

    yield case("01-once", "every row once", numbers.permutation(V))
    yield case("02-repeated", "rows that are taken several times, and some never", numbers.integers(0, V - 3, B, T))
    yield case("03-same", "one row all the time", np.full(T, 4))
    yield case("04-from-the-end", "-1 is the last row", np.array([-1, 0, V - 1, -2, -V]))
    yield case("20-beyond", "an index without a row", np.array([1, V]), result="error", error="(?i)index|range|bound")


def transpose_cases(numbers):
    def case(id, comment, shape, axes, **settings):
        of = [shape[i] for i in axes]
        return Case(id, comment, {"x": numbers.normal(*shape), "axes": np.array(axes)}, upstream=numbers.normal(*of),
                    **settings)

    yield case("01-matrix", "rows and columns", (B, T), (1, 0))
    yield case("02-heads", "tokens and heads change places", (B, T, 2, D), (0, 2, 1, 3))
    yield case("03-around", "three axes change places in turn", (B, T, D), (1, 2, 0))
    yield case("04-cube", "the same where every shape fits", (4, 4, 4), (2, 0, 1))
    yield case("20-twice", "one axis twice", (B, T, D), (0, 1, 1), result="error", error="(?i)axis|axes|repeat|permut")


def equation(name, where, formula, forward, inputs, differentiable, cases, attrs, source):
    return Equation(name, "Harris et al. 2020", where, formula, getattr(shapes, forward),
                    getattr(shapes, f"{forward}_gradient"), inputs, differentiable, cases, attrs,
                    {"paper": Convention({}, source)}, ("y",))


X, AXIS = {"x": "(B, T, D)"}, {"axis": None, "keepdims": False}
EQUATIONS = (
    equation("sum", "reductions", "y = sum_j x_j", "sum_over", X, ("x",), sum_cases, AXIS, "numpy.sum"),
    equation("mean", "reductions", "y = 1/n sum_j x_j", "mean_over", X, ("x",), sum_cases, AXIS, "numpy.mean"),
    equation("matmul", "linear algebra", "y = a b", "matmul", {"a": "(..., M, K)", "b": "(..., K, N)"}, ("a", "b"),
             matmul_cases, {}, "numpy.matmul, of two axes or more"),
    equation("concatenate", "shapes", "y = [first second third]", "concatenate",
             {"first": "(B, T, D)", "second": "(B, T', D)", "third": "(B, T'', D)"}, ("first", "second", "third"),
             concatenate_cases, {"axis": 0}, "numpy.concatenate"),
    equation("take", "indexing", "y_n = x[i_n]", "take", {"x": "(V, D)", "index": "(B, T)"}, ("x",), take_cases, {},
             "integer array indexing of NumPy"),
    equation("transpose", "shapes", "axis i of y is axis axes_i of x", "transpose", {"x": "(B, T, D)", "axes": "(3,)"},
             ("x",), transpose_cases, {}, "numpy.transpose"),
)
