"""The affine map in groups: cases. The sums: `grouped_linear.py`."""

from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.grouped_linear import grouped_linear, grouped_linear_gradient

B, T, D = 3, 7, 12


def grouped_cases(numbers):
    def case(id, comment, F, groups, *, rows=(B, T), inputs=None, **settings):
        inputs = {"x": numbers.normal(*rows, D), "weight": numbers.normal(F, inputs or D // groups),
                  "bias": numbers.normal(F)}
        return Case(id, comment, inputs, {"groups": groups}, upstream=numbers.normal(*rows, F), **settings)

    yield case("01-two", "two groups", 8, 2)
    yield case("02-three", "three groups, as many outputs as inputs in each", 12, 3)
    yield case("03-four", "four groups, as in SqueezeBERT", 20, 4)
    yield case("04-one", "one group: the affine map", 5, 1)
    yield case("05-depthwise", "as many groups as inputs", 12, 12)
    yield case("06-rows", "eleven rows without sequences", 6, 2, rows=(11,))
    yield case("20-inputs", "a weight for fewer inputs", 8, 2, inputs=5, result="error",
               error="(?i)shape|size|weight|group|divi")
    yield case("21-groups", "outputs that the groups do not divide", 9, 2, result="error",
               error="(?i)shape|size|group|divi")


EQUATIONS = (
    Equation("grouped_linear", "Iandola et al. 2020", "section 3",
             "y_g = x_g W_g^T + b_g for each of G runs of neighbours",
             grouped_linear, grouped_linear_gradient, {"x": "(B, T, D)", "weight": "(F, D/G)", "bias": "(F,)"},
             ("x", "weight", "bias"), grouped_cases, {"groups": 4},
             {"paper": Convention({}, "the weight as torch.nn.Conv1d keeps it, for a kernel of 1")}, ("y",)),
)
