"""Cases of losses that compare the rows of student and teacher, (B, T, D) each, which several files share."""

import numpy as np

from tinydistill_reference.equation import Case
from tinydistill_reference.numbers import lengths_to_mask, poisoned

B, T, D, TEACHER_D = 3, 7, 5, 6
RIGHT = lengths_to_mask((7, 4, 2), T)
HOLES = np.tile([1, 0, 1, 1, 0, 0, 1], (B, 1)) == 1


def row_cases(field="hidden", D=D, teacher_D=None, weight=False, left=True, equal=None,
              more=lambda numbers, case: ()):
    """cases(numbers). field: of student_<field> and teacher_<field>; weight: whether a map (teacher_D, D) is learned;
    left: whether position 0 may be padding; equal: settings of the case where teacher and student are equal;
    more(numbers, case): cases of its own."""
    def cases(numbers):
        teacher_width = teacher_D or D

        def case(id, comment, *, mask=RIGHT, student=None, teacher=None, matrix=None, scale=1.0, offset=0.0,
                 **settings):
            student = numbers.normal(B, T, D, scale=scale, offset=offset) if student is None else student
            teacher = numbers.normal(B, T, teacher_width) if teacher is None else teacher
            arrays = {f"student_{field}": student, f"teacher_{field}": teacher}
            if settings.get("result") != "error":
                arrays = {name: poisoned(x, mask) for name, x in arrays.items()}
            arrays["mask"] = mask
            if weight:
                arrays["weight"] = numbers.normal(teacher.shape[2], D) if matrix is None else matrix
            return Case(id, comment, arrays, **settings)

        yield case("01-plain", "no padding, an upstream gradient of 1", mask=lengths_to_mask((T,) * B, T), upstream=1.0)
        yield case("02-right", "padding on the right (7, 4 and 2 of 7 tokens)")
        if left:
            yield case("03-left", "padding on the left", mask=RIGHT[:, ::-1].copy())
        yield case("04-holes", "padding between the tokens", mask=HOLES)
        same = numbers.normal(B, T, D)
        yield case("05-equal", "teacher and student are equal", student=same, teacher=same, matrix=np.eye(D),
                   **(equal or {}))
        yield case("06-large", "a student 40 times as large", scale=40.0, min_dtype="float32")
        yield case("07-offset", "a student 300 higher than its teacher", offset=300.0, min_dtype="float32")
        yield case("08-one", "one real token", mask=lengths_to_mask((1, 1, 1), T))
        yield case("09-small", "a student near 0", scale=2.0 ** -10)
        yield from more(numbers, case)
        yield case("20-empty", "a sequence without a real token", mask=lengths_to_mask((7, 0, 2), T), result="error",
                   error="(?i)mask|sequence|token|position 0", conventions=("paper",))
        yield case("21-shapes", "a teacher of fewer tokens", teacher=numbers.normal(B, T - 1, teacher_width),
                   result="error", error="(?i)shape|same|size|teacher")
        if weight:
            yield case("22-weight", "a map of another width", matrix=numbers.normal(teacher_width, D + 1),
                       result="error", error="(?i)weight|width|map|shape|matmul")
    return cases


def shapes(field="hidden", student_D="D", weight=False):
    found = {f"student_{field}": f"(B, T, {student_D})", f"teacher_{field}": "(B, T, D)", "mask": "(B, T)"}
    return found | ({"weight": f"(D, {student_D})"} if weight else {})
