"""MiniLM's ablations: cases. The sums: `minilm_ablations.py`."""

import numpy as np

from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.minilm_ablations import (hidden_relation_transfer, hidden_relation_transfer_gradient,
                                                    value_error, value_error_gradient)
from tinydistill_reference.numbers import lengths_to_mask, poisoned
from tinydistill_reference.specs.rows import row_cases, shapes

CONVENTIONS = {"paper": Convention({}, "Wang et al. 2020, section 4 (unverified), with padding left out")}
B, T, A, K, TEACHER_A, TEACHER_K = 3, 7, 3, 4, 2, 5         # widths 12 and 10


def value_cases(numbers):
    """Values in heads that differ in number and in size."""
    mask = lengths_to_mask((7, 4, 2), T)

    def case(id, comment, *, mask=mask, scale=1.0, student=None, teacher=None, weight=None, shorter=0, **settings):
        student = numbers.normal(B, A, T, K, scale=scale) if student is None else student
        teacher = numbers.normal(B, TEACHER_A, T - shorter, TEACHER_K) if teacher is None else teacher
        weight = numbers.normal(teacher.shape[1] * teacher.shape[3], A * K) if weight is None else weight
        if not shorter:
            student, teacher = poisoned(student, mask), poisoned(teacher, mask)
        return Case(id, comment, {"student_values": student, "teacher_values": teacher, "mask": mask, "weight": weight},
                    **settings)

    yield case("01-plain", "no padding, an upstream gradient of 1", mask=lengths_to_mask((7, 7, 7), T), upstream=1.0)
    yield case("02-right", "padding on the right (7, 4 and 2 of 7 tokens)")
    yield case("03-left", "padding on the left", mask=mask[:, ::-1].copy())
    yield case("04-holes", "padding between the tokens", mask=np.tile([1, 0, 1, 1, 0, 0, 1], (B, 1)) == 1)
    same = numbers.normal(B, A, T, K)
    yield case("05-equal", "a map that is right: the error is 0", student=same, teacher=same, weight=np.eye(A * K))
    yield case("06-large", "a student 40 times as large", scale=40.0, min_dtype="float32")
    yield case("07-small", "a student near 0", scale=2.0 ** -10)
    yield case("08-one", "one real token", mask=lengths_to_mask((1, 1, 1), T))
    yield case("20-empty", "a sequence without a real token", mask=lengths_to_mask((7, 0, 2), T), result="error",
               error="(?i)mask|sequence|token")
    yield case("21-shapes", "a teacher of fewer tokens", shorter=1, result="error", error="(?i)shape|same|size|teacher")
    yield case("22-weight", "a map of another width", weight=numbers.normal(10, 11), result="error",
               error="(?i)weight|width|map|shape|matmul")


def sharp(numbers, case):
    yield case("10-sharp", "hidden states as large as a layer norm's with outliers: a relation of one token",
               student=numbers.normal(B, T, 5, scale=4.0), teacher=numbers.normal(B, T, 6, scale=4.0),
               min_dtype="float32")


EQUATIONS = (
    Equation("minilm.value_mse", "Wang et al. 2020", "section 4", "1/(|x| D) sum_t |W v^S_t - v^T_t|^2", value_error,
             value_error_gradient, {"student_values": "(B, A', T, K')", "teacher_values": "(B, A, T, K)",
                                    "mask": "(B, T)", "weight": "(D, D'), D = A K"},
             ("student_values", "weight"), value_cases, {}, CONVENTIONS),
    Equation("minilm.hidden_relation", "Wang et al. 2020", "section 4",
             "1/|x| sum_t KL(HR^T_t || HR^S_t), HR = softmax(HH^T/sqrt(D))", hidden_relation_transfer,
             hidden_relation_transfer_gradient, shapes(student_D="D'"), ("student_hidden",),
             row_cases(teacher_D=6, more=sharp), {}, CONVENTIONS),
)
