"""Patient knowledge distillation: conventions and cases. The sums: `pkd.py`."""

import numpy as np

from tinydistill_reference.equation import Convention, Equation
from tinydistill_reference.pkd import patient_loss, patient_loss_gradient
from tinydistill_reference.specs.rows import B, D, RIGHT, T, row_cases, shapes

CONVENTIONS = {
    "paper": Convention({}, "Sun et al. 2019, whose sum over the examples we make a mean over the batch"),
    "official": Convention({"divisor": "element"}, "intersun/PKD-for-BERT-Model-Compression src/KD_loss.py: a mean "
                           "over sequences, layers and width"),
    "textbrewer": Convention({"divisor": "row"}, "airaria/TextBrewer src/textbrewer/losses.py pkd_loss: the paper's "
                             "sum over the width, a mean over sequences"),
}


def directions(numbers, case):
    """What only the direction of a vector, and one without a direction, can tell."""
    student = numbers.normal(B, T, D)
    yield case("10-longer", "a student that is the teacher, twice as long: the same direction, 0", student=2 * student,
               teacher=student)
    yield case("11-opposed", "a student of the opposite direction: 4 an example", student=-student, teacher=student)
    zero = np.where(np.arange(B)[:, None, None] == 1, 0.0, numbers.normal(B, T, D))
    yield case("12-teacher-0", "a teacher's vector of zeros", teacher=zero, result="acceptable", accepted=("nan",))
    yield case("13-student-0", "a student's vector of zeros: a gradient of 1e12", student=zero, result="acceptable",
               accepted=("nan",), min_dtype="float32")
    yield case("23-no-cls", "padding at position 0", mask=RIGHT[:, ::-1].copy(), result="error",
               error="(?i)cls|position|mask|padding")


EQUATIONS = (
    Equation("pkd.patience", "Sun et al. 2019", "eq. of L_PT (its number is unverified)",
             "1/B sum_b |h^S_b / |h^S_b| - h^T_b / |h^T_b||^2, h = hidden[:, 0]", patient_loss, patient_loss_gradient,
             shapes(), ("student_hidden",), row_cases(left=False, more=directions), {}, CONVENTIONS),
)
