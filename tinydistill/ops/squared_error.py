"""Weighted squared error of rows. Equations: `kernels/squared_error.py`."""

from tinydistill import kernels
from tinydistill.backend import xp_of
from tinydistill.tensor import op


@op
def squared_error(student, teacher, *, weight):
    """sum_rows weight * sum_j (student_j - teacher_j)^2: a sum; what it is divided by stands in the weight.

    Shapes: student, teacher (..., D), equal; weight broadcasts against their rows (...,).
    Gradient: the student alone, 2 weight (student - teacher); rows of weight 0 get exactly 0.
    """
    if student.shape != teacher.shape:
        raise ValueError(f"need the same shape: student {student.shape}, teacher {teacher.shape}")
    weight = rows_of(weight, student)
    value, gradient = kernels.of(student).squared_error(student, teacher, weight)
    return value, lambda dy: (dy * gradient, None)


def rows_of(weight, x):
    """The weight of each row of x, in its dtype so that float32 stays float32. Shapes: x (..., D) -> (...,)."""
    return xp_of(x).broadcast_to(weight.astype(x.dtype), x.shape[:-1])
