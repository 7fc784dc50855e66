"""FitNets: conventions and cases. The sums: `fitnets.py`."""

import numpy as np

from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.fitnets import hint, hint_gradient, softened, softened_gradient
from tinydistill_reference.numbers import exact, lengths_to_mask, poisoned
from tinydistill_reference.specs.soft_labels import PAIR, classes_cases, equation

HINT = {
    "paper": Convention({}, "Romero et al. 2015, for Transformers: a mean over the batch's real tokens"),
    "official": Convention({"rows": "all"}, "adri-romsor/FitNets costs/HintCost.py: the sum over axis 1, the width of "
                           "flat features, then the mean of the rest"),
}
SOFTENED = {"paper": Convention({}, "adri-romsor/FitNets costs/KDCost.py: a cross-entropy without tau^2, mean over the "
                                "batch")}
B, T, D, TEACHER_D = 3, 7, 4, 6


def hint_cases(numbers):
    """Hidden states of two widths and a regressor between them."""
    mask = lengths_to_mask((7, 4, 2), T)

    def case(id, comment, *, mask=mask, scale=1.0, reached=False, bias=True, turned=False, shorter=0, **settings):
        student = numbers.normal(B, T, D, scale=scale)
        weight, c = numbers.normal(TEACHER_D, D), numbers.normal(TEACHER_D) * bias
        teacher = exact(student @ weight.T + c) if reached else numbers.normal(B, T - shorter, TEACHER_D, scale=scale)
        hidden = {"student_hidden": student, "teacher_hidden": teacher}
        if not shorter:
            hidden = {name: poisoned(x, mask) for name, x in hidden.items()}
        return Case(id, comment, hidden | {"mask": mask, "weight": weight.T.copy() if turned else weight, "bias": c},
                    **settings)

    yield case("01-plain", "no padding, an upstream gradient of 1", mask=np.ones((B, T), bool), upstream=1.0)
    yield case("02-right", "padding on the right (7, 4 and 2 of 7 tokens)")
    yield case("03-left", "padding on the left", mask=mask[:, ::-1].copy())
    yield case("04-holes", "padding between the tokens", mask=np.tile([1, 0, 1, 1, 0, 0, 1], (B, 1)) == 1)
    yield case("05-reached", "the hint is reached but for the rounding of float32", reached=True)
    yield case("06-no-bias", "a bias of 0", bias=False)
    yield case("07-large", "hidden states x 40", scale=40.0)
    yield case("08-one", "one real token a sequence", mask=lengths_to_mask((1, 1, 1), T))
    yield case("20-turned", "a regressor (D, D')", turned=True, result="error", error="(?i)weight|regressor|shape|size")
    yield case("21-shapes", "a teacher of fewer tokens", shorter=1, result="error", error="(?i)shape|same|size|teacher")
    yield case("22-no-row", "a mask without a real token", mask=np.zeros((B, T), bool), result="error",
               error="(?i)mask")


EQUATIONS = (
    Equation("fitnets.hint", "Romero et al. 2015", "eq. of L_HT (its number is unverified)",
             "1/N sum_n 1/2 |R h^S_n + c - h^T_n|^2", hint, hint_gradient,
             {"student_hidden": "(B, T, D)", "teacher_hidden": "(B, T, D')", "mask": "(B, T)", "weight": "(D', D)",
              "bias": "(D',)"}, ("student_hidden", "weight", "bias"), hint_cases, {}, HINT),
    equation("fitnets.softened", classes_cases, PAIR, SOFTENED, "Romero et al. 2015",
             "eq. of L_KD (its number is unverified)", "-1/N sum_n sum_c p_nc log q_nc, p = softmax(teacher / tau)",
             softened, softened_gradient, temperature=3.0),
)
