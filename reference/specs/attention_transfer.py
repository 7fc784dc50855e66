"""Attention transfer: conventions and cases. The sums: `attention_transfer.py`."""

import numpy as np

from tinydistill_reference.attention_transfer import maps, maps_gradient, maps_official, maps_official_gradient
from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.numbers import lengths_to_mask, poisoned

MAPS = {"paper": Convention({}, "Zagoruyko and Komodakis 2017, without beta/2; Q over the real tokens")}
CODE = "szagoruyko/attention-transfer utils.py: a mean over B H W"
OFFICIAL = {
    "official": Convention({}, CODE),
    "real": Convention({"rows": "real"}, "the same with padding left out of the maps and of the mean"),
}
SHAPES = {"student_hidden": "(B, T, D)", "teacher_hidden": "(B, T, D')", "mask": "(B, T)"}
B, T, D, TEACHER_D = 3, 7, 4, 6


def map_cases(numbers, squared=False):
    """Hidden states of two widths; squared: a difference of 0 has a derivative."""
    mask = lengths_to_mask((7, 4, 2), T)

    def case(id, comment, *, mask=mask, scale=1.0, teacher=None, silent=False, shorter=0, **settings):
        s = numbers.normal(B, T, D, scale=scale)
        s[0] *= not silent
        t = numbers.normal(B, T - shorter, TEACHER_D) if teacher is None else teacher(s)
        inputs = {"student_hidden": s, "teacher_hidden": t}
        if not shorter:
            inputs = {name: poisoned(x, mask) for name, x in inputs.items()}
        return Case(id, comment, inputs | {"mask": mask}, **settings)

    yield case("01-plain", "no padding, an upstream gradient of 1", mask=np.ones((B, T), bool), upstream=1.0)
    yield case("02-right", "padding on the right (7, 4 and 2 of 7 tokens)")
    yield case("03-left", "padding on the left", mask=mask[:, ::-1].copy())
    yield case("04-holes", "padding between the tokens", mask=np.tile([1, 0, 1, 1, 0, 0, 1], (B, 1)) == 1)
    yield case("05-one", "one real token: its map is 1, the loss 0", mask=lengths_to_mask((1, 1, 1), T))
    yield case("06-scaled", "student x 40: a map has no length", scale=40.0)
    yield case("07-near", "a teacher that differs in one channel", teacher=lambda s: s * [1, 1, 1, 1.5])
    differentiable = {} if squared else {"result": "acceptable", "accepted": ("nan", "zero")}
    yield case("08-equal", "equal maps: 0, where a length has no derivative", teacher=lambda s: s, **differentiable)
    yield case("09-silent", "a student's layer that is 0 in one sequence: no NaN", silent=True,
               mask=np.ones((B, T), bool), result="acceptable", accepted=("nan",))
    if not squared:
        yield case("20-empty", "a sequence without a real token", mask=lengths_to_mask((7, 0, 2), T), result="error",
                   error="(?i)mask|sequence|token")
    yield case("21-shapes", "a teacher of fewer tokens", shorter=1, result="error", error="(?i)shape|same|size|teacher")


def squared_cases(numbers):
    return map_cases(numbers, squared=True)


EQUATIONS = (
    Equation("attention_transfer.maps", "Zagoruyko and Komodakis 2017", "eq. of L_AT (its number is unverified)",
             "1/B sum_b |Q^S_b / |Q^S_b| - Q^T_b / |Q^T_b||, Q_bt = sum_d h_btd^2", maps, maps_gradient, SHAPES,
             ("student_hidden",), map_cases, {}, MAPS),
    Equation("attention_transfer.maps_official", "Zagoruyko and Komodakis 2017", "eq. of L_AT, as in their code",
             "1/(B T) sum_b |Q^S_b / |Q^S_b| - Q^T_b / |Q^T_b||^2, Q_bt = sum_d h_btd^2", maps_official,
             maps_official_gradient, SHAPES, ("student_hidden",), squared_cases, {}, OFFICIAL),
)
